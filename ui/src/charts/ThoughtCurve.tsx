// How likely the reference is, thought by thought: one line a member. What a reward is made of.

import type { Member } from "../api/types";
import { plain, perplexity } from "../format";
import { domainOf, digitsFor, path, scale, ticks } from "./scale";
import { useWidth } from "./useWidth";

interface Props {
  initial: number | null;
  members: Member[];
  lit: { member: number; thought: number } | null;
  onPick: (member: number, thought: number) => void;
  height?: number;
}

const LEFT = 46;
const RIGHT = 16;

export function ThoughtCurve({ initial, members, lit, onPick, height = 250 }: Props) {
  const [ref, width] = useWidth<HTMLDivElement>(640);
  const lines = members.map((member, place) => ({ place, member, points: pointsOf(initial, member) }));
  const all = lines.flatMap((line) => line.points);
  const ys = domainOf(all.map((p) => p.y), { least: 0.05 });
  const longest = Math.max(1, ...all.map((p) => p.x));
  const x = scale([0, longest], [LEFT + 8, width - RIGHT]);
  const y = ys && scale(ys, [height - 34, 10]);
  return (
    <div ref={ref} class="thought-curve">
      {ys && y ? (
        <svg width={width} height={height} role="img" aria-label="Mean log-prob of the reference after each thought, one line a member">
          {ticks(ys, 4).map((tick) => (
            <g key={tick}>
              <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
              <text class="tick" x={LEFT - 6} y={y(tick) + 3.5} text-anchor="end">{plain(tick, digitsFor(ticks(ys, 4)))}</text>
            </g>
          ))}
          {ticks([0, longest], Math.min(longest, width / 60)).filter(Number.isInteger).map((tick) => (
            <text key={tick} class="tick" x={x(tick)} y={height - 18} text-anchor="middle">{tick}</text>
          ))}
          <text class="tick" x={(LEFT + width) / 2} y={height - 3} text-anchor="middle">thoughts read</text>
          {lines.map(({ place, points }) => (
            <g key={place} class={`member-${place % 8}`} opacity={lit && lit.member !== place ? 0.35 : 1}>
              <path class="line" d={path(points, x, y)} stroke-dasharray={place >= 8 ? "5 3" : undefined} />
              {points.map((p) => (
                <Mark key={p.x} {...p} cx={x(p.x)} cy={y(p.y)} lit={lit?.member === place && lit.thought === p.thought} onClick={() => onPick(place, p.thought)} />
              ))}
            </g>
          ))}
        </svg>
      ) : (
        <p class="empty-chart">no thought of this group was priced</p>
      )}
    </div>
  );
}

interface MarkPoint {
  x: number;
  y: number;
  /** -1 is before any thought. */
  thought: number;
  kind: "start" | "plain" | "reflective";
  credited: boolean;
}

function pointsOf(initial: number | null, member: Member): MarkPoint[] {
  const segments = member.segments ?? [];
  const points: MarkPoint[] = initial === null ? [] : [{ x: 0, y: initial, thought: -1, kind: "start", credited: false }];
  for (const [place, one] of segments.entries()) {
    const kind = one.reflective ? "reflective" : "plain";
    points.push({ x: place + 1, y: one.mean_logprob, thought: place, kind, credited: one.credited });
  }
  if (segments.length === 0 && member.mean_logprob !== null) {
    points.push({ x: 1, y: member.mean_logprob, thought: -1, kind: "plain", credited: false });
  }
  return points;
}

function Mark({ cx, cy, kind, credited, lit, y, onClick }: MarkPoint & { cx: number; cy: number; lit: boolean; onClick: () => void }) {
  const size = lit ? 7 : kind === "reflective" ? 5.2 : 3.4;
  return (
    <g class={lit ? "mark lit" : "mark"} onClick={onClick}>
      <title>{`log-prob ${plain(y)}, perplexity ${perplexity(y)}`}</title>
      <circle class="target" cx={cx} cy={cy} r={11} />
      {credited && <circle class="ring" cx={cx} cy={cy} r={size + 3.4} />}
      {kind === "reflective" ? (
        <path class="dot" d={`M${cx} ${cy - size}L${cx + size} ${cy}L${cx} ${cy + size}L${cx - size} ${cy}Z`} />
      ) : (
        <circle class="dot" cx={cx} cy={cy} r={size} />
      )}
    </g>
  );
}
