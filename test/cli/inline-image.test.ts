import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { type ImageProtocol, imageProtocolOf, inlineImage, renderImage } from "../../src/cli/terminal/inline-image.js";

const size = { width: 128, height: 128 };
const png = { bytes: Buffer.alloc(10_000, "image"), contentType: "image/png", ...size };
const jpeg = { ...png, contentType: "image/jpeg" };

/** The bytes in kitty's chunks, and what is said of them. */
function readKitty(sequence: string) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are steered by them.
  const chunks = [...sequence.matchAll(/\u001b_G([^;]*);([^\u001b]*)\u001b\\/g)];
  assert.equal(`${chunks.map(([whole]) => whole).join("")}\n`, sequence);
  const data = chunks.map(([, , part = ""]) => part);
  return { controls: chunks.map(([, control]) => control), data, bytes: Buffer.from(data.join(""), "base64") };
}

suite("inline image on the terminal", () => {
  test("inline image by kitty's protocol is sent in chunks that make up the image", () => {
    const { controls, data, bytes } = readKitty(inlineImage(png, "kitty", 80));
    assert.deepEqual(bytes, png.bytes);
    assert.deepEqual(controls, ["a=T,f=100,q=2,r=16,m=1", "m=1", "m=1", "m=0"]);
    assert.ok(data.every(({ length }) => length <= 4096));
    assert.ok(data.slice(0, -1).every(({ length }) => length % 4 === 0));
    const small = readKitty(inlineImage({ ...png, bytes: Buffer.from("p") }, "kitty", 80));
    assert.deepEqual(small.controls, ["a=T,f=100,q=2,r=16,m=0"]);
  });

  test("inline image by iTerm2's protocol is sent in one piece", () => {
    for (const image of [png, jpeg]) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are steered by them.
      const pattern = /^\u001b\]1337;File=inline=1;size=10000;height=16;preserveAspectRatio=1:([^\u0007]*)\u0007\n$/;
      const data = pattern.exec(inlineImage(image, "iterm2", 80))?.[1];
      assert.deepEqual(Buffer.from(data ?? "", "base64"), png.bytes);
    }
  });

  test("inline image is no wider than the terminal", () => {
    const rows = (columns: number, width: number, height: number) =>
      /r=(\d+)/.exec(inlineImage({ ...png, width, height }, "kitty", columns))?.[1];
    assert.equal(rows(32, 128, 128), "16");
    assert.equal(rows(31, 128, 128), "15");
    assert.equal(rows(80, 2048, 64), "1");
    assert.equal(rows(80, 64, 2048), "16");
    assert.equal(rows(1, 64, 64), "1");
  });

  test("inline image is omitted for types and sizes that the protocol does not support", () => {
    assert.equal(inlineImage(jpeg, "kitty", 80), "");
    const webp = { ...png, contentType: "image/webp" };
    const large = { ...png, bytes: new Uint8Array(8 * 1024 * 1024 + 1) };
    for (const protocol of ["kitty", "iterm2"] as const) {
      assert.equal(inlineImage(webp, protocol, 80), "");
      assert.equal(inlineImage(large, protocol, 80), "");
    }
  });

  test("inline image protocol is detected by the terminal's variables, and none within a multiplexer", () => {
    const cases: [Record<string, string>, ImageProtocol | undefined][] = [
      [{}, undefined],
      [{ TERM: "xterm-256color" }, undefined],
      [{ TERM: "xterm-256color", TERM_PROGRAM: "Apple_Terminal" }, undefined],
      [{ TERM: "xterm-kitty" }, "kitty"],
      [{ TERM: "xterm-256color", KITTY_WINDOW_ID: "1" }, "kitty"],
      [{ TERM: "xterm-ghostty" }, "kitty"],
      [{ TERM_PROGRAM: "ghostty" }, "kitty"],
      [{ TERM_PROGRAM: "iTerm.app" }, "iterm2"],
      [{ LC_TERMINAL: "iTerm2", TERM: "xterm-256color" }, "iterm2"],
      [{ TERM_PROGRAM: "WezTerm" }, "iterm2"],
      [{ TERM_PROGRAM: "vscode" }, "iterm2"],
      [{ KONSOLE_VERSION: "230804" }, "iterm2"],
      [{ KONSOLE_VERSION: "211200" }, undefined],
      [{ TERM: "screen-256color", KITTY_WINDOW_ID: "1" }, undefined],
      [{ TERM: "tmux-256color", TERM_PROGRAM: "WezTerm" }, undefined],
      [{ TERM: "xterm-kitty", TMUX: "/tmp/tmux-0/default,1,0" }, undefined],
      [{ TERM: "xterm-kitty", STY: "1.pts" }, undefined],
    ];
    for (const [environment, protocol] of cases) {
      assert.equal(imageProtocolOf(environment), protocol, JSON.stringify(environment));
    }
  });

  test("inline image is shown on terminals only, and not when turned off or with JSON", () => {
    const terminal = Object.assign(new PassThrough(), { isTTY: true, columns: 80 });
    const settings = { inline: "auto", quiet: false, json: false } as const;
    const environment = { TERM: "xterm-kitty" };
    const shown = renderImage(png, settings, { stdout: terminal, environment });
    assert.deepEqual(readKitty(shown).bytes, png.bytes);
    assert.match(renderImage(png, { ...settings, inline: "iterm2" }, { stdout: terminal, environment }), /1337/);
    for (const [differing, streams] of [
      [{ inline: "never" }, {}],
      [{ quiet: true }, {}],
      [{ json: true }, {}],
      [{}, { stdout: new PassThrough() }],
      [{}, { environment: { TERM: "xterm" } }],
      [{ inline: "kitty" }, { environment: { TERM: "dumb" } }],
      [{ inline: "kitty" }, { stdout: new PassThrough() }],
    ] as const) {
      const context = { stdout: terminal, environment, ...streams };
      assert.equal(renderImage(png, { ...settings, ...differing }, context), "", JSON.stringify(differing));
    }
  });
});
