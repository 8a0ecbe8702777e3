import { expect, test } from "vitest";
import { band, digitsFor, domainOf, nearest, path, scale, thinned, ticks } from "./scale";

const same = (x: number) => x;

test("ticks are round, inside, and about as many as asked", () => {
  for (const [low, high] of [[0, 1], [-3.2, 0.01], [0, 4999], [0.123, 0.1234], [-1e-6, 1e-6]] as const) {
    const found = ticks([low, high], 4);
    expect(found.length).toBeGreaterThanOrEqual(2);
    expect(found.length).toBeLessThanOrEqual(6);
    for (const tick of found) expect(tick >= low - 1e-9 && tick <= high + 1e-9).toBe(true);
  }
  expect(ticks([0, 1], 4)).toEqual([0, 0.25, 0.5, 0.75, 1]);
  expect(digitsFor([0, 0.25])).toBe(2);
  expect(digitsFor([0, 50])).toBe(0);
});

test("a domain holds all numbers and is never empty", () => {
  expect(domainOf([])).toBeNull();
  expect(domainOf([null, Number.NaN])).toBeNull();
  const [low, high] = domainOf([2, 2]) ?? [0, 0];
  expect(low).toBeLessThan(2);
  expect(high).toBeGreaterThan(2);
});

test("a scale maps ends to ends", () => {
  const to = scale([10, 20], [100, 0]);
  expect([to(10), to(15), to(20)]).toEqual([100, 50, 0]);
});

test("a missing value is a gap in the line", () => {
  expect(path([{ x: 0, y: 1 }, { x: 1, y: 2 }, { x: 2, y: null }, { x: 3, y: 4 }], same, same)).toBe("M0 1L1 2M3 4");
  expect(path([{ x: 0, y: 1 }, { x: 1, y: 2 }], same, same, true)).toBe("M0 1H1V2");
});

test("a band needs both its sides", () => {
  expect(band([{ x: 0, low: 0, high: 2 }, { x: 1, low: null, high: 3 }, { x: 2, low: 1, high: 3 }], same, same)).toBe("M0 2L2 3L2 1L0 0Z");
});

test("thinning keeps every spike, and the last point", () => {
  const points = Array.from({ length: 10_000 }, (_, x) => ({ x, y: x === 4321 ? 99 : Math.sin(x) }));
  const kept = thinned(points, 400);
  expect(kept.length).toBeLessThanOrEqual(401);
  expect(kept.some((point) => point.y === 99)).toBe(true);
  expect(kept.at(-1)?.x).toBe(9999);
  expect([...kept].sort((a, b) => a.x - b.x)).toEqual(kept);
});

test("the nearest of no points is none", () => {
  expect(nearest([], 1)).toBeNull();
  expect(nearest([0, 5, 9], 6)).toBe(5);
});
