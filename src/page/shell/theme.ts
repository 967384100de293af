import { signal as createSignal, effect, type Signal } from "@preact/signals";

/** What a person wants: as the system is, or one of the two. */
export type Theme = "system" | "light" | "dark";

const themes: readonly Theme[] = ["system", "light", "dark"];
const storageKey = "throughline.theme";

/** The theme, kept in this browser and told to the style sheet. */
export function createTheme(root: HTMLElement, storage: Storage): Signal<Theme> {
  const theme = createSignal(themes.find((each) => each === storage.getItem(storageKey)) ?? "system");
  effect(() => {
    root.dataset["theme"] = theme.value;
    storage.setItem(storageKey, theme.value);
  });
  return theme;
}

/** The one after it. */
export function nextTheme(theme: Theme): Theme {
  return themes[(themes.indexOf(theme) + 1) % themes.length] ?? "system";
}
