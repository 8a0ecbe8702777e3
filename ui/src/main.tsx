import { render } from "preact";
import { App } from "./App";
import { follow } from "./state/route";
import { showTheme } from "./state/session";
import "./styles/page.css";

showTheme();
follow();
const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
}
