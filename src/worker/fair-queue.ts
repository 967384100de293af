/** Item of a fair queue. */
export interface FairItem {
  /** Key of the caller. Items of one caller keep their order. */
  readonly caller: string;
  /** Expected cost. Used only to predict the order; shares are charged with the actual cost. */
  readonly cost: () => number;
}

/**
 * Fair queue across callers: the next item is of the caller with the least usage. Backlogged callers get equal shares, whatever the number
 * and size of their items.
 *
 * Start-time fair queuing (https://doi.org/10.1109/90.649569), charged with the actual cost as in https://arxiv.org/abs/2401.00588. A caller
 * without items starts at the virtual time, the start tag of the running item, which never decreases. So callers cannot save up shares, and
 * a new one waits for the running item and at most one item of each other caller. To prevent starvation by a stream of new callers, a
 * caller that was passed by eight new callers goes next. An empty queue forgets all usage.
 */
export interface FairQueue<T extends FairItem> {
  push(item: T): void;
  /** Removes and returns the next item, which runs until `charge`. Only one item runs at a time. */
  shift(): T | undefined;
  /** Ends the running item with its actual cost. */
  charge(cost: number): void;
  /** Removes a waiting item. */
  remove(item: T): void;
  /** Returns the waiting items, unordered. */
  items(): Iterable<T>;
  /** Returns the waiting items in the predicted order, assuming no arrivals, no cancellations and the expected costs. */
  order(): readonly T[];
  /**
   * Returns the item to evict from a full queue: the newest of the caller with the most waiting items.
   */
  newestOfLongest(): T | undefined;
  readonly size: number;
}

/** Maximum number of new callers that may pass a caller. */
const maxPassed = 8;

/** Account of a caller with items, or with usage above the virtual time. */
interface Account<T> {
  /** Whether the caller had no turn yet. */
  fresh: boolean;
  /** Usage, in virtual time. */
  used: number;
  /** Number of new callers that have passed its first ticket. */
  passed: number;
  readonly waiting: Ticket<T>[];
}

interface Ticket<T> {
  readonly item: T;
  /** Arrival number, the tie-breaker. */
  readonly number: number;
}

export function createFairQueue<T extends FairItem>(): FairQueue<T> {
  const accounts = new Map<string, Account<T>>();
  let running: { readonly item: T; readonly account: Account<T> } | undefined;
  let virtualTime = 0;
  let issued = 0;
  let size = 0;

  const isActive = (account: Account<T>) => account.waiting.length > 0 || account === running?.account;

  /** Advances the virtual time to the next item and drops accounts that equal a new one. */
  const advance = (): void => {
    const active = [...accounts.values()].filter(isActive);
    if (running === undefined && active.length > 0) {
      virtualTime = Math.max(virtualTime, Math.min(...active.map(({ used }) => used)));
    }
    // An idle account at or behind the virtual time, or without competitors, equals a new one.
    for (const [caller, account] of accounts) {
      if (!isActive(account) && (account.used <= virtualTime || active.length === 0)) {
        accounts.delete(caller);
      }
    }
    if (accounts.size === 0) {
      virtualTime = 0;
    }
  };

  /** Selects the next account: overdue ones first, then the lowest start tag, then the first arrival. */
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

  /** Removes the first ticket of an account and counts the accounts that it passes. */
  const take = (account: Account<T>, all: Iterable<Account<T>>): T | undefined => {
    const ticket = account.waiting.shift();
    for (const other of all) {
      // New callers are served in arrival order, so they do not pass each other.
      if (account.fresh && !other.fresh && other.waiting.length > 0) {
        other.passed++;
      }
    }
    account.passed = 0;
    account.fresh = false;
    return ticket?.item;
  };

  /** Simulates the next turns on copies of the accounts. */
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
