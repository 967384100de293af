import { useEffect, useState } from "preact/hooks";
import type { Studio } from "../shell/studio.js";

/** Properties of an element that takes dropped and pasted files, and whether one is being dragged over it. */
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
  const take = (event: Event, data: DataTransfer | null) => {
    const files = [...(data?.files ?? [])];
    const [file] = files;
    if (file === undefined) {
      return;
    }
    event.preventDefault();
    if (files.length > 1) {
      studio.start.reject(`There are ${files.length} files. Choose one image.`);
    } else {
      void studio.startFrom(file, file.name);
    }
  };
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
      take(event, event.dataTransfer);
    },
    onPaste(event: ClipboardEvent) {
      // Some programs copy an image of their text beside it.
      if (event.clipboardData?.types.includes("text/plain") !== true) {
        take(event, event.clipboardData);
      }
    },
  };
}

function hasFiles({ dataTransfer }: DragEvent): boolean {
  return dataTransfer?.types.includes("Files") ?? false;
}
