// Names what a build was made from, so that anybody without node can tell whether the committed bundles are current:
// the sha256 over the sha256 lines of all sources, by path, as tests/service/ui/test_bundle.py computes it again.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Plugin } from "vite";

const ROOTS = ["index.html", "package-lock.json", "tsconfig.json", "vite.config.ts"];
const FOLDERS = ["public", "src"];

export function builtFrom(): Plugin {
  return {
    name: "built-from",
    apply: "build",
    closeBundle: () => writeFileSync("built-from.txt", `${digest()}\n`),
  };
}

function digest(): string {
  const inside = FOLDERS.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !/\.test\.tsx?$/.test(entry.name))
      .map((entry) => `${entry.parentPath}/${entry.name}`.replaceAll("\\", "/")),
  );
  const lines = [...ROOTS, ...inside].sort().map((path) => `${sha256(readFileSync(path))}  ${path}\n`);
  return sha256(lines.join(""));
}

function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
