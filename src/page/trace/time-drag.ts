import { useState } from "preact/hooks";

/** Pixels below which a drag is a click. */
const minimumPixels = 5;

interface Drag {
  /** Left edge and width of the bars' lanes, in pixels. */
  readonly left: number;
  readonly width: number;
  readonly start: number;
  readonly now: number;
}

/**
 * Handlers for dragging over the bars of a waterfall, and the part that is being selected, as shares of the lanes, 0 to 1.
 *
 * Only a mouse and a pen drag: a finger scrolls.
 */
export function useTimeDrag(onSelect: (one: number, other: number) => void) {
  const [drag, setDrag] = useState<Drag>();
  const share = ({ left, width }: Drag, x: number) => Math.min(1, Math.max(0, (x - left) / width));
  const isDragged = drag !== undefined && Math.abs(drag.now - drag.start) >= minimumPixels;
  const end = () => setDrag(undefined);
  return {
    selection: isDragged
      ? {
          from: share(drag, Math.min(drag.start, drag.now)),
          to: share(drag, Math.max(drag.start, drag.now)),
        }
      : undefined,
    handlers: {
      onPointerDown(event: PointerEvent) {
        const lane = event.target instanceof Element ? event.target.closest(".lane") : null;
        if (lane === null || event.button !== 0 || event.pointerType === "touch") {
          return;
        }
        const { left, width } = lane.getBoundingClientRect();
        setDrag({ left, width, start: event.clientX, now: event.clientX });
      },
      onPointerMove(event: PointerEvent) {
        if (drag === undefined) {
          return;
        }
        if (event.buttons === 0) {
          // The button was released elsewhere.
          end();
          return;
        }
        const next = { ...drag, now: event.clientX };
        if (!isDragged && Math.abs(next.now - next.start) >= minimumPixels && event.currentTarget instanceof Element) {
          event.currentTarget.setPointerCapture(event.pointerId);
        }
        setDrag(next);
      },
      onPointerUp() {
        if (drag !== undefined && isDragged) {
          onSelect(share(drag, drag.start), share(drag, drag.now));
        }
        end();
      },
      onPointerCancel: end,
    },
  };
}
