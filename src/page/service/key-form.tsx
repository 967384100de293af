import { useEffect, useRef } from "preact/hooks";
import type { Studio } from "../shell/studio.js";
import type { CallerKey } from "./caller-key.js";

/** Asks for a caller's key where the service wants one. */
export function KeyForm({ studio, callerKey }: { studio: Studio; callerKey: CallerKey }) {
  const input = useRef<HTMLInputElement>(null);
  const wanted = studio.needsKey.value;
  useEffect(() => {
    if (wanted) {
      input.current?.focus();
    }
  }, [wanted]);
  if (!wanted) {
    return null;
  }
  const refused = callerKey.current.value !== undefined;
  return (
    <form
      class="notice is-warning key"
      aria-label="Key"
      onSubmit={(event) => {
        event.preventDefault();
        callerKey.set(input.current?.value ?? "");
        studio.keyChanged();
      }}
    >
      <div>
        <label for="caller-key">
          <strong>{refused ? "The service does not take this key." : "The service wants a key."}</strong> Enter the one
          that you were given for it; it is kept in this tab only.
        </label>
        <input id="caller-key" ref={input} type="password" autoComplete="off" spellcheck={false} required />
      </div>
      <button type="submit">Use key</button>
    </form>
  );
}
