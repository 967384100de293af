import { useEffect, useState } from "preact/hooks";

/** A button that copies a text and confirms it. Screen readers read `before` before its label. */
export function CopyButton({ text, label, before = "" }: { text: () => string; label: string; before?: string }) {
  const [notice, setNotice] = useState<string>();
  useEffect(() => {
    if (notice !== undefined) {
      const timer = setTimeout(() => setNotice(undefined), 2000);
      return () => clearTimeout(timer);
    }
    return;
  }, [notice]);
  const copy = async () => setNotice((await copyText(text())) ? "Copied" : "Not allowed here");
  return (
    <button type="button" class="quiet" onClick={copy}>
      {notice === undefined && before !== "" && <span class="unseen">{before} </span>}
      <span aria-live="polite">{notice ?? label}</span>
    </button>
  );
}

/** Puts a text on the clipboard; returns whether the browser allowed it. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelection(text);
  }
}

/** Over plain HTTP from another machine a browser gives no clipboard, but copies what is selected. */
function copySelection(text: string): boolean {
  const focused = document.querySelector<HTMLElement>(":focus");
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "unseen";
  document.body.append(area);
  area.focus();
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
    focused?.focus();
  }
}

/** Has the browser save a text as a file. */
export function downloadText(text: string, { name, type }: { readonly name: string; readonly type: string }): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the blob by then.
  setTimeout(() => URL.revokeObjectURL(url), 0);
}
