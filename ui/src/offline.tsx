// What files draw that hold their data and need no service: the page of `score --plot`, and parts of the trainer's report.
// Each part is an element with a `data-draw` that names what is drawn, and inside it the data as JSON.

import { render } from "preact";
import { CurvesView, type Charts } from "./offline/Curves";
import { GroupsView, type Groups } from "./offline/Groups";
import "./styles/page.css";

const DRAWN: Record<string, (data: unknown) => preact.ComponentChild> = {
  groups: (data) => <GroupsView {...(data as Groups)} />,
  curves: (data) => <CurvesView {...(data as Charts)} />,
};

for (const element of document.querySelectorAll("[data-draw]")) {
  const data = element.querySelector("script[type='application/json']")?.textContent;
  const draw = DRAWN[element.getAttribute("data-draw") ?? ""];
  if (draw && data) {
    element.replaceChildren();
    render(draw(JSON.parse(data)), element);
  }
}
