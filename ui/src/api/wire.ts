// What this page uses of the service's own routes: POST /reward, POST /score and GET /rewards.

export interface RewardAnswer {
  model: { weight_version: string };
  config_hash: string;
  groups: {
    initial_mean_logprob: number | null;
    initial_token_logprobs?: number[] | null;
    reference_token_texts?: string[] | null;
    diagnostics: Record<string, number>;
    trajectories: AnswerTrajectory[];
  }[];
}

export interface AnswerTrajectory {
  id: string;
  status: "ok" | "error";
  reward: number | null;
  components: Record<string, number> | null;
  mean_logprob: number | null;
  token_logprobs: number[] | null;
  segments: { mean_logprob: number; gain: number; credited: boolean; token_logprobs: number[] | null }[] | null;
  flags: string[];
  error: { code: string; message: string } | null;
}

export interface ScoreAnswer {
  model: { weight_version: string };
  items: ScoreItem[];
}

export interface ScoreItem {
  token_texts: string[] | null;
  /** Null where an environment wrote the token. */
  token_logprobs: (number | null)[] | null;
  error: { code: string; message: string } | null;
}

export interface RewardsAnswer {
  rewards: {
    name: string;
    summary: string;
    presets: Record<string, { config: Record<string, unknown>; components: string[] }>;
  }[];
}
