import { expect, test } from "vitest";
import { cellsOf } from "./cells";
import { certainty, heatWords } from "./heatWords";

const CELLS = cellsOf(["There", " are", " 9", " pears", "\n\n"]);

test.each([
  ["logprob", [-0.01, -0.2, -5, null, -0.3], "Least likely: “9” −5.00, “line end” −0.30, “are” −0.20."],
  ["logprob", [0, -0.01, 0, 0, 0], "Every token was as good as certain."],
  ["logprob", [null, null, null, null, null], "No token was priced."],
  ["change", [0, 1.5, -0.5, 0.01, 0], "Now likelier: “are” +1.50; less likely: “9” −0.50."],
  ["change", [0, 0, 0, 0, 0.01], "This thought changed no token by much."],
  ["spread", [0, 0, 2, 0, 0], "The members differ most on “9” 2.00."],
  ["spread", [0, 0, 0, 0, 0], "The members agree on every token."],
] as const)("%s of %o", (mode, values, words) => {
  expect(heatWords(CELLS, values, mode)).toBe(words);
});

test("certainty is over tokens that were priced", () => {
  expect(certainty([-1, null, -3])).toBe("2 tokens, mean log-prob −2.000, perplexity 7.39");
  expect(certainty([null])).toBe("no token priced");
});
