// Where a response's thought ends and its answer begins.

const END = "</think>";

/** How many characters stand before the answer: 0 where no thought is marked. */
export function answerStart(response: string): number {
  const at = response.lastIndexOf(END);
  return at < 0 ? 0 : at + END.length;
}

/** The response before and after the end of its thought; all of it is "after" where no thought is marked. */
export function around(response: string): { before: string; after: string } {
  const at = answerStart(response);
  return { before: response.slice(0, Math.max(0, at - END.length)).replace(/^\s*<think>/, "").trim(), after: response.slice(at).trim() };
}
