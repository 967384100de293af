import type { Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { EntityMap } from "../map/entity-map.js";
import { HistoryStrip } from "../picture/history-strip.js";
import { PictureStage } from "../picture/picture-stage.js";
import { PaintingForm } from "../request/painting-form.js";
import { TroubleNotice } from "../request/trouble-notice.js";
import type { CallerKey } from "../service/caller-key.js";
import { KeyForm } from "../service/key-form.js";
import { RecentTraces } from "../trace/recent-traces.js";
import { TracePanel } from "../trace/trace-panel.js";
import { ConnectionBanner, Header } from "./header.js";
import type { Studio } from "./studio.js";
import type { Theme } from "./theme.js";

/** The whole page: the request, its picture, its trace, and what all requests come to. */
export function Page({ studio, callerKey, theme }: { studio: Studio; callerKey: CallerKey; theme: Signal<Theme> }) {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        studio.paint();
      } else if (event.key === "Escape" && studio.painting.state.value.kind === "running") {
        event.preventDefault();
        studio.cancel();
      }
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [studio]);
  usePictureInSight(studio.painting.state.value.kind === "running");
  return (
    <>
      <Header connection={studio.connection} theme={theme} />
      <main>
        <div class="notices">
          <ConnectionBanner connection={studio.connection} />
          <KeyForm studio={studio} callerKey={callerKey} />
          <TroubleNotice studio={studio} />
        </div>
        <div class="columns">
          <PaintingForm studio={studio} />
          <div class="column">
            <PictureStage studio={studio} />
            <HistoryStrip studio={studio} />
          </div>
          <div class="column sights">
            <TracePanel studio={studio} />
            {studio.connection.offer.value?.hasTraces !== false && (
              <>
                <EntityMap studio={studio} />
                <RecentTraces studio={studio} />
              </>
            )}
          </div>
        </div>
      </main>
    </>
  );
}

/** On a phone the picture is below the form: where painting begins it comes into sight. */
function usePictureInSight(running: boolean): void {
  useEffect(() => {
    const picture = document.getElementById("picture");
    if (running && picture !== null && picture.getBoundingClientRect().top > innerHeight * 0.6) {
      picture.scrollIntoView({ block: "start" });
    }
  }, [running]);
}
