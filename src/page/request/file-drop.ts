import { useEffect, useState } from "preact/hooks";
import type { Studio } from "../shell/studio.js";

/** Properties of an element that takes files, and whether one is being dragged over it. */
export function useFileDrop(studio: Studio) {
  const [isOver, setOver] = useState(false);
  // Beside the form, a browser would leave the page and open the file.
  useEffect(() => {
    const ignore = (event: DragEvent) => {
      if (hasFiles(event)) {
        event.preventDefault();
      }
    };
    addEventListener("dragover", ignore);
    addEventListener("drop", ignore);
    return () => {
      removeEventListener("dragover", ignore);
      removeEventListener("drop", ignore);
    };
  }, []);
  return {
    isOver,
    onDragOver(event: DragEvent) {
      if (hasFiles(event)) {
        event.preventDefault();
        setOver(true);
      }
    },
    onDragLeave(event: DragEvent & { readonly currentTarget: HTMLElement }) {
      if (!(event.relatedTarget instanceof Node && event.currentTarget.contains(event.relatedTarget))) {
        setOver(false);
      }
    },
    onDrop(event: DragEvent) {
      setOver(false);
      const files = [...(event.dataTransfer?.files ?? [])];
      const [file] = files;
      if (file === undefined) {
        return;
      }
      event.preventDefault();
      if (files.length > 1) {
        studio.start.reject(`${files.length} files were dropped. Drop one image.`);
      } else {
        void studio.startFrom(file, file.name);
      }
    },
  };
}

function hasFiles({ dataTransfer }: DragEvent): boolean {
  return dataTransfer?.types.includes("Files") ?? false;
}
