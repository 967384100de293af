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
 * Who comes with nothing here begins at the virtual time, the start tag of what runs, which never falls: nobody saves up shares, and a
 * newcomer waits for the item that runs and for at most one of each other caller. Newcomers without end would so keep everybody else away;
 * therefore who has let the first turns of eight new callers pass goes next, and has at least one turn in nine while new ones come.
 * When nothing is here any more, all is forgotten.
 */
export interface FairQueue<T extends FairItem> {
  push(item: T): void;
  /** Takes the next item out; it runs until `charge`, and nothing else runs meanwhile. */
  shift(): T | undefined;
  /** Ends what runs, with the cost that it really had. */
  charge(cost: number): void;
  /** Takes out an item that waits. */
  remove(item: T): void;
  /** Those who wait, in no order. */
  items(): Iterable<T>;
  /** Those who wait, in the order of their turns if nobody comes or leaves and each costs what is expected. */
  order(): readonly T[];
  /**
   * Whom an overfull queue gives up to keep the callers' places even: the newest item of the caller who has most waiting, never somebody's oldest
   * unless it came last of all.
   */
  newestOfLongest(): T | undefined;
  readonly size: number;
}

/** First turns of new callers that one lets pass at most. */
const maxPassed = 8;

/** A caller who has something here, or has had more than others and is not forgotten for it yet. */
interface Account<T> {
  /** Whether it has had no turn yet. */
  fresh: boolean;
  /** What it has used, on the scale that all share. */
  used: number;
  /** First turns of new callers that its first ticket has let pass. */
  passed: number;
  readonly waiting: Ticket<T>[];
}

interface Ticket<T> {
  readonly item: T;
  /** Order of coming, which decides between equals. */
  readonly number: number;
}

export function createFairQueue<T extends FairItem>(): FairQueue<T> {
  const accounts = new Map<string, Account<T>>();
  let running: { readonly item: T; readonly account: Account<T> } | undefined;
  let virtualTime = 0;
  let issued = 0;
  let size = 0;

  const isActive = (account: Account<T>) => account.waiting.length > 0 || account === running?.account;

  /** The virtual time follows what runs, or what will run next. */
  const advance = (): void => {
    const active = [...accounts.values()].filter(isActive);
    if (running === undefined && active.length > 0) {
      virtualTime = Math.max(virtualTime, Math.min(...active.map(({ used }) => used)));
    }
    // An account that is behind the virtual time, or here alone, is worth what a new one is.
    for (const [caller, account] of accounts) {
      if (!isActive(account) && (account.used <= virtualTime || active.length === 0)) {
        accounts.delete(caller);
      }
    }
    if (accounts.size === 0) {
      virtualTime = 0;
    }
  };

  /** Whose turn is next: who has let too many pass, else the lowest start tag; of equals the one who came first. */
  const nextOf = (candidates: Iterable<Account<T>>): Account<T> | undefined => {
    const numberOf = ({ waiting }: Account<T>) => waiting[0]?.number ?? Number.POSITIVE_INFINITY;
    const isOverdue = ({ passed }: Account<T>) => passed >= maxPassed;
    const isBefore = (a: Account<T>, b: Account<T>) => {
      if (isOverdue(a) !== isOverdue(b)) {
        return isOverdue(a);
      }
      return isOverdue(a) || a.used === b.used ? numberOf(a) < numberOf(b) : a.used < b.used;
    };
    let next: Account<T> | undefined;
    for (const account of candidates) {
      if (account.waiting.length > 0 && (next === undefined || isBefore(account, next))) {
        next = account;
      }
    }
    return next;
  };

  /** Takes the first ticket of an account, and notes whom it passed. */
  const take = (account: Account<T>, all: Iterable<Account<T>>): T | undefined => {
    const ticket = account.waiting.shift();
    for (const other of all) {
      // A new caller has the start tag of its coming, and no later one gets before it.
      if (account.fresh && !other.fresh && other.waiting.length > 0) {
        other.passed++;
      }
    }
    account.passed = 0;
    account.fresh = false;
    return ticket?.item;
  };

  /** Plays the turns to come on copies of the accounts. */
  const order = (): readonly T[] => {
    const copies = [...accounts.values()].map((account) => ({
      ...account,
      used: account.used + (running?.account === account ? running.item.cost() : 0),
      waiting: [...account.waiting],
    }));
    const items: T[] = [];
    for (let next = nextOf(copies); next !== undefined; next = nextOf(copies)) {
      const item = take(next, copies);
      if (item !== undefined) {
        items.push(item);
        next.used += item.cost();
      }
    }
    return items;
  };

  return {
    push(item) {
      advance();
      const number = issued++;
      const account = accounts.get(item.caller) ?? { fresh: true, used: 0, passed: 0, waiting: [] };
      if (!isActive(account)) {
        account.used = Math.max(account.used, virtualTime);
      }
      account.waiting.push({ item, number });
      accounts.set(item.caller, account);
      size++;
    },
    shift() {
      const account = nextOf(accounts.values());
      const item = account && take(account, accounts.values());
      if (account === undefined || item === undefined) {
        return undefined;
      }
      size--;
      virtualTime = Math.max(virtualTime, account.used);
      running = { item, account };
      return item;
    },
    charge(cost) {
      if (running !== undefined) {
        running.account.used += cost;
        running = undefined;
        advance();
      }
    },
    remove(item) {
      const account = accounts.get(item.caller);
      const index = account?.waiting.findIndex((ticket) => ticket.item === item) ?? -1;
      if (account !== undefined && index >= 0) {
        account.waiting.splice(index, 1);
        account.passed = index === 0 ? 0 : account.passed;
        size--;
        advance();
      }
    },
    *items() {
      for (const { waiting } of accounts.values()) {
        for (const { item } of waiting) {
          yield item;
        }
      }
    },
    order,
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
