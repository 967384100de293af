import { effect, type Signal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { createIndexedHistory, makeThumbnail } from "./image/browser-store.js";
import { openHistory } from "./image/history.js";
import { HistoryStrip, ImageStage } from "./image/image-stage.js";
import { prepareStartImage } from "./image/prepare-image.js";
import { JobsPanel } from "./jobs/jobs-panel.js";
import { EntityMap } from "./map/entity-map.js";
import { GenerationForm } from "./request/generation-form.js";
import { formFromFragment, shareFragment, traceFromFragment } from "./request/request-form.js";
import { maxStreams, newId } from "./service/browser.js";
import { createClients } from "./service/clients.js";
import {
  type CallerKey,
  ConnectionBanner,
  createTheme,
  ErrorNotice,
  Header,
  KeyForm,
  openCallerKey,
  type Theme,
} from "./shell/header.js";
import { createStudio, type Studio } from "./shell/studio.js";
import { RecentTraces, TracePanel } from "./trace/trace-panel.js";

const formKey = "throughline.form";
const jobsKey = "throughline.jobs";
const callerKey = openCallerKey(sessionStorage);
const theme = createTheme(document.documentElement, localStorage);
const studio = createStudio({
  ...createClients({ baseUrl: new URL(".", location.href).href, key: () => callerKey.current.value }),
  history: await openHistory({ store: createIndexedHistory(indexedDB) }),
  form: formFromFragment(location.hash) ?? formFromFragment(sessionStorage.getItem(formKey) ?? ""),
  traceId: traceFromFragment(location.hash),
  now: Date.now,
  random: Math.random,
  makeThumbnail,
  prepareImage: prepareStartImage,
  fetch: (url) => fetch(url),
  newId,
  maxWatchedJobs: maxStreams(performance),
  areJobsOpen: localStorage.getItem(jobsKey) === "open",
});

// Keeps the form over a reload, in this tab.
effect(() => sessionStorage.setItem(formKey, shareFragment(studio.form.value)));

// Only a panel that was opened asks for the jobs by itself.
effect(() => localStorage.setItem(jobsKey, studio.jobs.isOpen.value ? "open" : "closed"));

// A page that is open already follows a link too.
addEventListener("hashchange", () => {
  const form = formFromFragment(location.hash);
  if (form !== undefined) {
    studio.form.value = form;
  }
  studio.lookAt(traceFromFragment(location.hash) ?? "");
});
const watchWhileSeen = () => {
  studio.jobs.setPageSeen(!document.hidden);
  if (document.hidden) {
    studio.connection.stop();
  } else {
    studio.connection.start();
  }
};
document.addEventListener("visibilitychange", watchWhileSeen);
addEventListener("online", studio.connection.retry);
watchWhileSeen();

const root = document.getElementById("studio");
if (root !== null) {
  render(<Page studio={studio} callerKey={callerKey} theme={theme} />, root);
}

/** The page: form, image, history, trace, service graph and recent traces. */
export function Page({ studio, callerKey, theme }: { studio: Studio; callerKey: CallerKey; theme: Signal<Theme> }) {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        studio.generate();
      } else if (event.key === "Escape" && studio.generation.state.value.kind === "running") {
        event.preventDefault();
        studio.cancel();
      }
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [studio]);
  useImageInSight(studio.generation.state.value.kind === "running");
  return (
    <>
      <Header connection={studio.connection} theme={theme} />
      <main>
        <div class="notices">
          <ConnectionBanner connection={studio.connection} />
          <KeyForm studio={studio} callerKey={callerKey} />
          <ErrorNotice studio={studio} />
        </div>
        <div class="columns">
          <GenerationForm studio={studio} />
          <div class="column">
            <ImageStage studio={studio} />
            <JobsPanel studio={studio} />
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

/** Scrolls to the image when generation starts: on a phone it is below the form. */
function useImageInSight(running: boolean): void {
  useEffect(() => {
    const image = document.getElementById("image");
    if (running && image !== null && image.getBoundingClientRect().top > innerHeight * 0.6) {
      image.scrollIntoView({ block: "start" });
    }
  }, [running]);
}
