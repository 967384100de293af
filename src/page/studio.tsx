import { render } from "preact";
import { openHistory } from "./picture/history.js";
import { createIndexedHistory } from "./picture/indexed-history.js";
import { makeThumbnail } from "./picture/thumbnail.js";
import { formFromFragment } from "./request/share-link.js";
import { openCallerKey } from "./service/caller-key.js";
import { createClients } from "./service/clients.js";
import { Page } from "./shell/page.js";
import { createStudio } from "./shell/studio.js";
import { createTheme } from "./shell/theme.js";

const callerKey = openCallerKey(sessionStorage);
const theme = createTheme(document.documentElement, localStorage);
const studio = createStudio({
  ...createClients({ baseUrl: new URL(".", location.href).href, key: () => callerKey.current.value }),
  history: await openHistory({ store: createIndexedHistory(indexedDB) }),
  form: formFromFragment(location.hash),
  now: Date.now,
  random: Math.random,
  makeThumbnail,
});

// A link that is opened in a page that is open already says what to paint as well.
addEventListener("hashchange", () => {
  const form = formFromFragment(location.hash);
  if (form !== undefined) {
    studio.form.value = form;
  }
});
const watchWhileSeen = () => (document.hidden ? studio.connection.stop() : studio.connection.start());
document.addEventListener("visibilitychange", watchWhileSeen);
addEventListener("online", studio.connection.retry);
watchWhileSeen();

const root = document.getElementById("studio");
if (root !== null) {
  render(<Page studio={studio} callerKey={callerKey} theme={theme} />, root);
}
