import { useEffect, useState } from "preact/hooks";
import { roughDuration } from "../shell/duration-text.js";
import { Advice } from "../shell/header.js";
import { useNow } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import type { Trouble } from "./trouble.js";

/** Why there is no picture, and what to do. */
export function TroubleNotice({ studio }: { studio: Studio }) {
  const state = studio.painting.state.value;
  if (state.kind !== "failed" || state.trouble.needsKey) {
    return null;
  }
  const { title, advice, detail, connectionLost } = state.trouble;
  // The connection's own banner says it already.
  if (connectionLost && studio.connection.state.value.kind === "lost") {
    return null;
  }
  return (
    <section class="notice is-error" aria-label="Failure">
      <div role="alert">
        <strong>{title}.</strong> <Advice text={advice} />
        {detail !== "" && <p class="detail">{detail}</p>}
      </div>
      <PaintAgain studio={studio} trouble={state.trouble} />
    </section>
  );
}

/** The button, which counts down where the service said when there is room. */
function PaintAgain({ studio, trouble }: { studio: Studio; trouble: Trouble }) {
  const [failedAtMs, setFailedAtMs] = useState(Date.now());
  useEffect(() => setFailedAtMs(Date.now()), [trouble]);
  const now = useNow(trouble.retryAfterMs !== undefined, 500);
  const leftMs = trouble.retryAfterMs === undefined ? 0 : failedAtMs + trouble.retryAfterMs - now;
  return (
    <button type="button" onClick={studio.paint}>
      Paint again{leftMs > 0 && <span class="muted"> (room in {roughDuration(leftMs)})</span>}
    </button>
  );
}
