import { expect, test } from "vitest";
import { cellsOf, overCells, visible } from "./cells";

const PEAR = ["a", "bytes:\\xe6\\xa2", "bytes:\\xa8", " b"]; // 梨 in two tokens

test("a character of several tokens is one cell, with the sum of their log-probs", () => {
  const cells = cellsOf(PEAR);
  expect(cells.map((one) => one.text)).toEqual(["a", "梨", " b"]);
  expect(overCells(cells, [-1, -2, -0.5, -4])).toEqual([-1, -2.5, -4]);
  expect(overCells(cells, [-1, null, -0.5, -4])).toEqual([-1, null, -4]);
});

test("two characters that share a token are one cell", () => {
  expect(cellsOf(["bytes:\\xe6\\xa2", "bytes:\\xa8\\xe6", "bytes:\\xa2\\xa8"]).map((one) => one.text)).toEqual(["梨梨"]);
});

test("a part of a character that nothing completes does not swallow what follows", () => {
  const cells = cellsOf(["bytes:\\xe6\\xa2", "x", "bytes:\\xe6"]);
  expect(cells.map((one) => one.text)).toEqual(["\ufffd", "x", "\ufffd"]);
  expect(cells.map((one) => [one.from, one.to])).toEqual([[0, 1], [1, 2], [2, 3]]);
});

test("line ends can be seen", () => {
  expect(["a", ".\n\n", "\n", " b"].map(visible)).toEqual(["a", ".↵↵\n", "↵\n", " b"]);
});
