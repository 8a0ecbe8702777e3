import { expect, test } from "vitest";
import { EventParser } from "./events";

test("events are found however the stream is cut", () => {
  const stream = ': hello\n\nevent: changed\ndata: {"seen": 1}\n\n: still here\n\ndata: {"seen":\ndata: 2}\n\ndata: {"se';
  for (const width of [1, 2, 3, 7, stream.length]) {
    const parser = new EventParser();
    const found: string[] = [];
    for (let at = 0; at < stream.length; at += width) found.push(...parser.push(stream.slice(at, at + width)));
    expect(found).toEqual(['{"seen": 1}', '{"seen":\n2}']);
  }
});
