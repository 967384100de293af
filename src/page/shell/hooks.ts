import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** A URL for a blob, for as long as it is shown. */
export function useObjectUrl(blob: Blob | undefined): string | undefined {
  const [url, setUrl] = useState<string>();
  useLayoutEffect(() => {
    if (blob === undefined) {
      setUrl(undefined);
      return;
    }
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}

/** Renders again every so many milliseconds while `active`; returns milliseconds since 1970. */
export function useNow(active: boolean, everyMs: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!active) {
      return;
    }
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [active, everyMs]);
  return active ? Math.max(now, Date.now()) : now;
}

/** Renders with each frame while `active`, or four times a second with much to render or with reduced motion. */
export function useFrames(active: boolean, much: boolean): number {
  const calm = much || matchMedia("(prefers-reduced-motion: reduce)").matches;
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!active || calm) {
      return;
    }
    let frame = requestAnimationFrame(function next() {
      setNow(Date.now());
      frame = requestAnimationFrame(next);
    });
    return () => cancelAnimationFrame(frame);
  }, [active, calm]);
  const slow = useNow(active && calm, 250);
  return Math.max(now, slow);
}

/** The width of an element in pixels, kept up to date; 0 before it is known. */
export function useWidth<T extends Element>() {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) {
      return;
    }
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return { ref, width };
}
