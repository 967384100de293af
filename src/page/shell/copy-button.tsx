import { useEffect, useState } from "preact/hooks";

/** A button that copies a text, and says so. `what` is its whole name for those who do not see where it stands. */
export function CopyButton({ text, label, what }: { text: () => string; label: string; what: string }) {
  const [said, setSaid] = useState<string>();
  useEffect(() => {
    if (said !== undefined) {
      const timer = setTimeout(() => setSaid(undefined), 2000);
      return () => clearTimeout(timer);
    }
    return;
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setSaid("Copied");
    } catch {
      // Over plain HTTP from another machine a browser gives no clipboard.
      setSaid("Not allowed here");
    }
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={said === undefined ? what : said}>
      <span aria-live="polite">{said ?? label}</span>
    </button>
  );
}
