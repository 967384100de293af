/**
 * Two pipelines and four workers of unequal speed that only wait, all with real ports: what share of the workers' sum is reached, and whether
 * one stands idle beside a queue. `npm run bench -- balance [clients of each pipeline]`, about a minute for each policy.
 */
import { type BalanceRound, runBalance } from "./run-balance.js";

const clients = Number(process.argv[2] ?? 8);
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`.padStart(8);

const row = ({ share, unfair, failures, images }: BalanceRound, round: number): string =>
  `  round ${round + 1}   ${percent(share)} of the sum   ${percent(unfair)} unfair   ${failures} failed   ${images.join(" + ")} images`;

for (const loadBalancing of ["least_wait", "round_robin"] as const) {
  const rounds = await runBalance({
    speeds: [1, 1, 2, 4],
    unitMs: 1_600,
    pipelines: 2,
    clients,
    rounds: 5,
    roundMs: 12_000,
    policies: { loadBalancing },
  });
  process.stdout.write(`${loadBalancing}, 2 pipelines with ${clients} clients each\n${rounds.map(row).join("\n")}\n`);
}
