// From components to the reward, in the reward's own formula: each bar starts where the one before it ended.

import type { Formula } from "../api/types";
import { plain, signed, words } from "../format";
import { waterfall } from "./waterfall";
import { domainOf, scale } from "./scale";

interface Props {
  formula: Formula | null;
  components: Record<string, number>;
  reward: number;
  flags: string[];
}

export function Waterfall({ formula, components, reward, flags }: Props) {
  const bars = waterfall(formula, components, reward, flags);
  const domain = domainOf([0, reward, ...bars.flatMap((bar) => [bar.from, bar.to])], { pad: 0 }) ?? [0, 1];
  const at = scale(domain, [0, 100]);
  const unpaid = Object.entries(components).filter(([name]) => !bars.some((bar) => bar.component === name));
  return (
    <table class="waterfall">
      <caption class="hidden">How the components make the reward</caption>
      <tbody>
        {bars.map((bar) => (
          <tr key={bar.label} class={bar.kind}>
            <th scope="row">{bar.label}</th>
            <td class="track">
              <i class="zero" style={{ left: `${at(0)}%` }} />
              <i
                class="fill"
                style={{
                  left: `${at(Math.min(bar.from, bar.to))}%`,
                  width: `${Math.max(0.8, Math.abs(at(bar.to) - at(bar.from)))}%`,
                }}
              />
            </td>
            <td class="number">{bar.kind === "total" ? plain(bar.to) : signed(bar.to - bar.from)}</td>
          </tr>
        ))}
        {unpaid.map(([name, value]) => (
          <tr key={name} class="unpaid">
            <th scope="row">{words(name)}</th>
            <td class="track">{formula && formula.terms.length > 0 && "shown, not paid"}</td>
            <td class="number">{plain(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
