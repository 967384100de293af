/** Bounds on waiting jobs. */
export interface WaitingLimits {
  readonly all: number;
  readonly perOwner: number;
}

/** Bounds where an operator sets none. */
export const defaultWaitingLimits: WaitingLimits = { all: 10_000, perOwner: 1_000 };
