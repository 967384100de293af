import { useEffect, useState } from "preact/hooks";

/** A button that copies a text, and says so. `before` stands before its label for those who do not see where it stands. */
export function CopyButton({ text, label, before = "" }: { text: () => string; label: string; before?: string }) {
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
    <button type="button" class="quiet" onClick={copy}>
      {said === undefined && before !== "" && <span class="unseen">{before} </span>}
      <span aria-live="polite">{said ?? label}</span>
    </button>
  );
}
