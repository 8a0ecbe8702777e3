// The JSON between the service and this page. Numbers are nats unless a name says otherwise; null is "not known".

export interface Model {
  name: string;
  revision: string;
  weight_version: string;
  dtype: string;
  engine: string;
}

/** GET ui/api/overview */
export interface Overview {
  model: Model;
  version: string;
  /** Whether prompts, references and responses are kept; else only numbers are shown. */
  texts_kept: boolean;
  storage: Storage;
  /** Newest first. */
  runs: RunSummary[];
}

export interface Storage {
  kind: "memory" | "audit";
  groups: number;
  bytes: number;
  /** What memory may hold; null for the audit log, which keeps everything. */
  limit_bytes: number | null;
  /** Groups that had to make room for newer ones since the service started. */
  dropped_groups: number;
  /** Trajectories that were rewarded and could not be kept. */
  lost_trajectories: number;
}

export interface RunSummary {
  run: string;
  groups: number;
  trajectories: number;
  first_step: number | null;
  last_step: number | null;
  /** Unix seconds of the newest group. */
  last_time: number;
  rewards: string[];
  completeness: Completeness;
  /** Mean rewards of the newest steps, oldest first, for a small curve. */
  trend: number[];
}

export interface Completeness {
  /** Groups with every member scored. */
  whole: number;
  /** Groups of which some members have no reward. */
  partial: number;
  /** Groups of which no member has a reward. */
  failed: number;
  /** Groups of requests that were answered with an error as a whole and did not come again. */
  missing: number;
  /** Groups that made room for newer ones: they are in the curves, and cannot be opened. */
  dropped: number;
  /** Steps between the first and the last one without any group: [first, last] of each gap. */
  missing_steps: [number, number][];
}

/** GET ui/api/series?run=…&after=… */
export interface Series {
  run: string;
  /** What `x` is: the trainer's step, or, where it sends none, the place in the order of arrival. */
  by: "step" | "arrival";
  points: Point[];
}

export interface Point {
  x: number;
  groups: number;
  trajectories: number;
  reward: number | null;
  /** Mean standard deviation of the rewards within groups. */
  spread: number | null;
  components: Record<string, number>;
  /** exp of the mean log-prob of the reference. */
  level: number | null;
  equal: number | null;
  gated: number | null;
  truncated: number | null;
  flagged: number | null;
  tokens: number | null;
  weight_version: string;
  /** Steps since these weights came. */
  staleness: number | null;
  errors: number;
}

export interface Filter {
  run?: string;
  first_step?: number;
  last_step?: number;
  flag?: string;
  reward_min?: number;
  reward_max?: number;
  text?: string;
  question?: Question;
  sort?: string;
  descending?: boolean;
}

export type Question = "earns_most" | "equal" | "longer_is_better" | "duplicates";

/** GET ui/api/groups?… */
export interface GroupPage {
  total: number;
  rows: GroupRow[];
  histogram: Histogram | null;
}

/** GET ui/api/trajectories?… */
export interface TrajectoryPage {
  total: number;
  rows: TrajectoryRow[];
  histogram: Histogram | null;
  /** How many of all that match carry each flag. */
  flags: Record<string, number>;
  /** Every component that some of them have. */
  components: string[];
}

export interface Histogram {
  low: number;
  high: number;
  counts: number[];
}

export interface GroupRow {
  key: number;
  run: string;
  step: number | null;
  group_id: string;
  time: number;
  size: number;
  scored: number;
  reward: string;
  preset: string;
  weight_version: string;
  mean: number | null;
  lowest: number | null;
  highest: number | null;
  spread: number | null;
  equal: boolean;
  components: Record<string, number>;
  flags: string[];
  tokens: number | null;
  excerpt: string | null;
}

export interface TrajectoryRow {
  key: number;
  position: number;
  run: string;
  step: number | null;
  group_id: string;
  id: string;
  reward: number | null;
  /** 1 is the best of its group. */
  rank: number | null;
  size: number;
  components: Record<string, number>;
  /** The component that lifts it most above its group's mean, and by how much reward. */
  lead: { component: string; amount: number } | null;
  flags: string[];
  tokens: number | null;
  error: string | null;
  excerpt: string | null;
  /** Where a question compares it with another one. */
  twin: { key: number; position: number; group_id: string; id: string; similarity: number } | null;
}

/** GET ui/api/group/KEY */
export interface GroupDetail extends Omit<GroupRow, "excerpt"> {
  task: string;
  config: Record<string, unknown>;
  config_hash: string;
  request_id: string | null;
  model: Model;
  formula: Formula | null;
  diagnostics: Record<string, number>;
  prompt: string | Message[] | null;
  prompt_token_ids: number[] | null;
  references: string[] | null;
  reference_token_ids: number[] | null;
  initial_mean_logprob: number | null;
  /** Of the reference, priced; null is "not known". */
  reference_tokens: number | null;
  members: Member[];
  /** Neighbours in the order of arrival, in the same run. */
  previous: number | null;
  next: number | null;
}

/** What of a group is drawn when it is shown whole; a file of `score --plot` has no more. */
export type ShownGroup = Pick<
  GroupDetail,
  | "group_id" | "scored" | "lowest" | "highest" | "config" | "formula" | "diagnostics" | "prompt" | "prompt_token_ids"
  | "references" | "reference_token_ids" | "initial_mean_logprob" | "reference_tokens" | "members"
>;

export interface Message {
  role: string;
  content: string;
}

/** How a reward comes from its components, for one configuration and task. */
export interface Formula {
  text: string;
  /** The sum before gates and bounds. */
  terms: { component: string; weight: number }[];
}

export interface Member {
  id: string;
  fresh: boolean;
  status: "ok" | "error";
  reward: number | null;
  components: Record<string, number> | null;
  mean_logprob: number | null;
  flags: string[];
  error: { code: string; message: string } | null;
  response: string | null;
  response_token_ids: number[] | null;
  /** Which of those ids the policy wrote; null where it wrote all. */
  response_mask?: number[] | null;
  /** As they were sent, in place of a response; `response` then says what was said, for reading. */
  turns?: unknown[] | null;
  tokens: number | null;
  segments: Segment[] | null;
  /** Whether an exact check finds it right; where there is one. */
  right?: boolean | null;
}

export interface Segment {
  index: number;
  start: number;
  end: number;
  text: string | null;
  reflective: boolean;
  mean_logprob: number;
  gain: number;
  credited: boolean;
}

/** One message of ui/events. */
export interface Changed {
  /** Names this life of the service; another one means that it was started again. */
  boot: string;
  /** Rises with everything that was rewarded. */
  seen: number;
}
