/** What waits: whose it is, and how long it is expected to keep the engine. */
export interface FairItem {
  /** Key of the caller. Items of one caller keep their order. */
  readonly caller: string;
  /** Expected cost now. Only the order of those that still wait is predicted from it; shares are counted in what was really used. */
  readonly cost: () => number;
}

/**
 * A queue that is fair across callers: next is an item of the caller who has used least, so that callers who always have something
 * waiting get equal shares, whatever the number and size of their items. This is start-time fair queueing
 * (https://doi.org/10.1109/90.649569), charged with what an item really used, as in https://arxiv.org/abs/2401.00588.
 *
 * Who comes with nothing here begins at the least of those who are here: nobody saves up shares, and a newcomer waits for the item that
 * runs and for at most one of each other caller. When nothing is here any more, all is forgotten.
 */
export interface FairQueue<T extends FairItem> {
  push(item: T): void;
  /** Takes the next item out; it runs until `charge`, and nothing else runs meanwhile. */
  shift(): T | undefined;
  /** Ends what runs, with the cost that it really had. */
  charge(cost: number): void;
  /** Takes out an item that waits. */
  remove(item: T): void;
  /** Those who wait, in the order of their turns if nobody comes or leaves and each costs what is expected. */
  order(): readonly T[];
  /** Whom an overfull queue gives up to keep the callers' places even: the newest item of the caller who has most waiting. */
  newestOfLongest(): T | undefined;
  readonly size: number;
}

/** A caller who has something here, or has had more than others and is not forgotten for it yet. */
interface Account<T> {
  /** What it has used, on the scale that all share. */
  used: number;
  waiting: Ticket<T>[];
}

interface Ticket<T> {
  readonly item: T;
  /** Order of coming, which decides between equals. */
  readonly number: number;
}

export function createFairQueue<T extends FairItem>(): FairQueue<T> {
  const accounts = new Map<string, Account<T>>();
  let running: { readonly item: T; readonly account: Account<T> } | undefined;
  let issued = 0;
  let size = 0;

  const isActive = (account: Account<T>) => account.waiting.length > 0 || account === running?.account;

  /** The least that anybody here has used; what runs is not charged yet. */
  const least = (): number =>
    [...accounts.values()]
      .filter(isActive)
      .reduce((least, { used }) => Math.min(least, used), Number.POSITIVE_INFINITY);

  /** An account that is behind everybody here, or here alone, is worth what a new one is. */
  const forget = (): void => {
    const floor = least();
    for (const [caller, account] of accounts) {
      if (!isActive(account) && account.used <= floor) {
        accounts.delete(caller);
      }
    }
  };

  /** Each ticket with its start tag: what its caller will have used when its turn comes. The next is the one with the lowest. */
  const tagged = () =>
    [...accounts.values()]
      .flatMap((account) => {
        let tag = account.used + (running?.account === account ? running.item.cost() : 0);
        return account.waiting.map((ticket) => {
          const start = tag;
          tag += ticket.item.cost();
          return { ...ticket, start };
        });
      })
      .sort((a, b) => a.start - b.start || a.number - b.number);

  return {
    push(item) {
      const account = accounts.get(item.caller) ?? { used: 0, waiting: [] };
      if (!isActive(account)) {
        const floor = least();
        account.used = Math.max(account.used, Number.isFinite(floor) ? floor : 0);
      }
      account.waiting.push({ item, number: issued++ });
      accounts.set(item.caller, account);
      size++;
    },
    shift() {
      const next = tagged()[0];
      const account = next && accounts.get(next.item.caller);
      if (next === undefined || account === undefined) {
        return undefined;
      }
      account.waiting.shift();
      size--;
      running = { item: next.item, account };
      return next.item;
    },
    charge(cost) {
      if (running !== undefined) {
        running.account.used += cost;
        running = undefined;
        forget();
      }
    },
    remove(item) {
      const account = accounts.get(item.caller);
      const index = account?.waiting.findIndex((ticket) => ticket.item === item) ?? -1;
      if (index >= 0) {
        account?.waiting.splice(index, 1);
        size--;
        forget();
      }
    },
    order: () => tagged().map(({ item }) => item),
    newestOfLongest() {
      const [first] = [...accounts.values()].sort(
        (a, b) =>
          b.waiting.length - a.waiting.length || (b.waiting.at(-1)?.number ?? -1) - (a.waiting.at(-1)?.number ?? -1),
      );
      return first?.waiting.at(-1)?.item;
    },
    get size() {
      return size;
    },
  };
}
