/**
 * Whether a pattern of the conformance runner matches a test case. Names and patterns are components between slashes: `*` stands for one
 * component, `**` for any number of them, none included.
 */
export function casePattern(pattern: string): (name: string) => boolean {
  const expression = pattern.split("/").map((component) => {
    if (component === "**") {
      return "(?:/[^/]*)*";
    }
    return component === "*" ? "/[^/]*" : `/${component.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")}`;
  });
  const whole = new RegExp(`^${expression.join("")}$`);
  return (name) => whole.test(`/${name}`);
}

/**
 * Finds few patterns that match every failing case and no passing one. Each case is widened from the left, component by component, as far
 * as no passing case matches; its last component always stays.
 */
export function shortPatterns(failing: readonly string[], passing: readonly string[]): string[] {
  const patterns: string[] = [];
  let left = [...failing];
  for (let name = left[0]; name !== undefined; name = left[0]) {
    const pattern = widen(name, passing);
    const matches = casePattern(pattern);
    patterns.push(pattern);
    left = left.filter((each) => !matches(each));
  }
  return patterns;
}

function widen(name: string, passing: readonly string[]): string {
  let components = name.split("/");
  for (let index = 0; index < components.length - 1; index++) {
    const wider = components.with(index, "**");
    if (!passing.some(casePattern(joined(wider)))) {
      components = wider;
    }
  }
  return joined(components);
}

function joined(components: readonly string[]): string {
  return components.filter((each, index) => each !== "**" || components[index - 1] !== "**").join("/");
}
