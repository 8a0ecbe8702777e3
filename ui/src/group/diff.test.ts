import { expect, test } from "vitest";
import { alike, compare } from "./diff";
import { ranks } from "./ranks";

const side = (pieces: ReturnType<typeof compare>, other: "left" | "right") =>
  pieces.filter((one) => one.where !== other).map((one) => one.text).join("");

test.each([
  ["the cat sat", "the dog sat"],
  ["", "all new"],
  ["一只猫坐在那里", "一只狗坐在那里"],
  ["a\n\nb  c", "a\nb c\n"],
])("both texts are in their comparison, whole: %j %j", (left, right) => {
  const pieces = compare(left, right);
  expect(side(pieces, "right")).toBe(left);
  expect(side(pieces, "left")).toBe(right);
});

test("equal texts are wholly alike, others less", () => {
  expect(alike(compare("x y", "x y"))).toBe(1);
  expect(alike(compare("", ""))).toBe(1);
  expect(alike(compare("one two", "three four"))).toBeLessThan(0.3);
});

test("long texts with nothing in common are compared in time", () => {
  const words = (salt: number) => Array.from({ length: 5000 }, (_, at) => `w${(at * 7919 + salt) % 99991}`).join(" ");
  const start = performance.now();
  const pieces = compare(words(1), words(50_000));
  expect(side(pieces, "left")).toBe(words(50_000));
  expect(performance.now() - start).toBeLessThan(5_000);
});

test("equal rewards share the better place", () => {
  expect(ranks([1, null, 3, 3, 0])).toEqual([3, null, 1, 1, 4]);
});
