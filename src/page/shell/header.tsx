import type { Signal } from "@preact/signals";
import type { Connection, ConnectionState } from "../service/connection.js";
import { useNow } from "./hooks.js";
import { nextTheme, type Theme } from "./theme.js";

/** The page's first line: what it is, how it stands with its service, how it looks. */
export function Header({ connection, theme }: { connection: Connection; theme: Signal<Theme> }) {
  return (
    <header class="top">
      <h1>
        <svg class="brand" viewBox="0 0 24 24" aria-hidden="true">
          <path d="M3 6h11M7 12h14M7 18h8" />
        </svg>
        Throughline <span class="light wide-only">studio</span>
      </h1>
      <ConnectionWords connection={connection} />
      <button
        type="button"
        class="quiet"
        aria-label={`Theme: ${theme.value}`}
        onClick={() => {
          theme.value = nextTheme(theme.value);
        }}
      >
        <span class="wide-only">Theme: </span>
        {theme.value}
      </button>
    </header>
  );
}

const words: Readonly<Record<ConnectionState["kind"], string>> = {
  connecting: "Connecting",
  live: "Connected",
  lost: "Connection lost",
  locked: "Key wanted",
};

function ConnectionWords({ connection }: { connection: Connection }) {
  const { kind } = connection.state.value;
  return (
    <p class={`connection is-${kind}`} role="status">
      <span class="dot" aria-hidden="true" /> {words[kind]}
    </p>
  );
}

/** What is to be said while the service, or its collector, is away. */
export function ConnectionBanner({ connection }: { connection: Connection }) {
  const state = connection.state.value;
  const now = useNow(state.kind === "lost", 500);
  if (state.kind !== "lost") {
    return null;
  }
  const seconds = Math.max(0, Math.ceil((state.retryAtMs - now) / 1000));
  return (
    <section class="notice is-warning" aria-label="Connection">
      <div>
        <strong role="alert">{state.trouble.title}.</strong> <Advice text={state.trouble.advice} />{" "}
        <span class="muted">Next try {seconds === 0 ? "now" : `in ${seconds} s`}.</span>
      </div>
      <button type="button" onClick={connection.retry}>
        Try now
      </button>
    </section>
  );
}

/** A sentence in which what stands between backquotes is to be typed. */
export function Advice({ text }: { text: string }) {
  return <>{text.split("`").map((part, index) => (index % 2 === 1 ? <code key={part}>{part}</code> : part))}</>;
}
