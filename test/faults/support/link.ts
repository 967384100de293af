import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A network namespace with one address, and the link that leads to it. */
export interface Link {
  /** Address in the namespace. */
  readonly address: string;
  /** Command and arguments that run a program in the namespace, as the same process. */
  readonly enter: readonly string[];
  /** Drops this share of the packets, from 0 to 1, in both directions, without a word to either end. */
  lose(share: number): Promise<void>;
  /** Lets no more than so many kilobits a second through, in both directions. */
  slow(kilobitsPerSecond: number): Promise<void>;
  /** Takes the link down. */
  cut(): Promise<void>;
  /** Takes all of that back. */
  heal(): Promise<void>;
  /** Lets go of the namespace. */
  close(): void;
}

/** Where the kernel finds a packet's random number: SKF_AD_OFF + SKF_AD_RANDOM of linux/filter.h. */
const randomAt = 0xffff_f000 + 56;

/** `tc`'s actions, of linux/pkt_cls.h. */
const pass = 0;
const drop = 2;

/**
 * Makes a namespace that lives as long as this process does, with a link into this process's own.
 *
 * @param index identifies the link, from 0 to 250.
 */
export async function createLink(index: number): Promise<Link> {
  const device = `worker${index}`;
  const address = `10.77.${index}.2`;
  // It ends with its input, so with this process.
  const holder = spawn("unshare", ["--net", "cat"], { stdio: ["pipe", "pipe", "inherit"] });
  // Its answer means that it is in the namespace by now.
  await new Promise<void>((resolve, reject) => {
    holder.stdout.once("data", () => resolve());
    holder.once("exit", () => reject(new Error("no network namespace can be made")));
    holder.stdin.write("\n");
  });
  holder.unref();
  const enter = ["nsenter", `--net=/proc/${holder.pid}/ns/net`];
  const [nsenter = "", ...into] = enter;
  const here = (command: string) => run(command.split(" ")[0] ?? "", command.split(" ").slice(1));
  const there = (command: string) => run(nsenter, [...into, ...command.split(" ")]);

  await here(`ip link add ${device} type veth peer name eth0 netns ${holder.pid}`);
  await here(`ip addr add 10.77.${index}.1/30 dev ${device}`);
  await here(`ip link set ${device} up`);
  await there(`ip addr add ${address}/30 dev eth0`);
  await there("ip link set lo up");
  await there("ip link set eth0 up");
  await here(`tc qdisc add dev ${device} clsact`);

  let isSlow = false;
  return {
    address,
    enter,
    async lose(share) {
      // The first instruction loads a random number of 32 bits, the second compares it.
      const threshold = Math.round((1 - share) * 0xffff_ffff);
      const program = `4,32 0 0 ${randomAt},53 0 1 ${threshold},6 0 0 ${drop},6 0 0 ${pass}`;
      for (const direction of ["ingress", "egress"]) {
        const filter = `filter replace dev ${device} ${direction} pref 1 handle 1 bpf direct-action bytecode`;
        await run("tc", [...filter.split(" "), program]);
      }
    },
    async slow(kilobitsPerSecond) {
      isSlow = true;
      const bucket = `root tbf rate ${kilobitsPerSecond}kbit burst 16kb latency 400ms`;
      await here(`tc qdisc replace dev ${device} ${bucket}`);
      await there(`tc qdisc replace dev eth0 ${bucket}`);
    },
    async cut() {
      await here(`ip link set ${device} down`);
    },
    async heal() {
      for (const direction of ["ingress", "egress"]) {
        // There may be none, which is no error.
        await here(`tc filter del dev ${device} ${direction}`);
      }
      if (isSlow) {
        isSlow = false;
        await here(`tc qdisc del dev ${device} root`);
        await there("tc qdisc del dev eth0 root");
      }
      await here(`ip link set ${device} up`);
    },
    close: () => void holder.stdin.end(),
  };
}
