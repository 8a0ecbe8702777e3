// `npm run dev` serves the page over invented data; `npm run build` writes both bundles where Python finds them.
//   page: service/opera_service/ui/static, with index.html        OFFLINE=1: client/opera_client/plot/static, one script

import { defineConfig } from "vitest/config";
import { builtFrom } from "./built-from.ts";
import { fixture } from "./fixture/server.ts";

const offline = process.env.OFFLINE !== undefined;
const OUT = process.env.OUT ?? "..";

export default defineConfig({
  base: "./",
  plugins: [fixture(), builtFrom()],
  publicDir: offline ? false : "public",
  build: {
    outDir: `${OUT}/${offline ? "client/opera_client/plot/static" : "service/opera_service/ui/static"}`,
    emptyOutDir: true,
    cssCodeSplit: !offline,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: offline
      ? { input: "src/offline.tsx", output: { format: "iife", entryFileNames: "plot.js", assetFileNames: "plot[extname]" } }
      : { output: { entryFileNames: "assets/page.js", chunkFileNames: "assets/[name].js", assetFileNames: "assets/[name][extname]" } },
  },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
