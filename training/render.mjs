// Renders every emoji that is neither a flag, a keycap, a clock nor a skin-tone variant in five drawing
// styles to 128x128 RGB on white.
//
//   node render.mjs --work DIR      reads DIR/data/node_modules, writes DIR/data/images.u8 and DIR/data/images.json
//
// images.u8 holds N pictures of 128*128*3 bytes one after the other; images.json names them in the same order.
import { createRequire } from 'node:module';
import { existsSync, openSync, writeSync, closeSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

const at = process.argv.indexOf('--work');
const work = at > 0 ? process.argv[at + 1] : path.join(homedir(), '.cache/throughline-training');
const data = path.join(path.resolve(work), 'data');
const require = createRequire(path.join(data, 'package.json'));
const sharp = require('sharp');
sharp.concurrency(1);

const SIZE = 128;
const emoji = require('unicode-emoji-json/data-by-emoji.json');
const flatChars = require('@iconify-json/fluent-emoji-flat/chars.json');
const sets = {
  mono: [require('@iconify-json/fluent-emoji-high-contrast/icons.json'), require('@iconify-json/fluent-emoji-high-contrast/chars.json')],
  flat: [require('@iconify-json/fluent-emoji-flat/icons.json'), flatChars],
  noto: [require('@iconify-json/noto/icons.json'), require('@iconify-json/noto/chars.json')],
  twemoji: [require('@iconify-json/twemoji/icons.json'), require('@iconify-json/twemoji/chars.json')],
};

const hex = (s) => [...s].map((c) => c.codePointAt(0).toString(16));

function picture3d(e) {
  const all = hex(e).map((h) => h.padStart(4, '0'));
  const bare = all.filter((h) => h !== 'fe0f');
  for (const name of [all.join('-'), bare.join('-'), bare.concat('fe0f').join('-')]) {
    const file = path.join(data, 'node_modules/@lobehub/fluent-emoji-3d/assets', `${name}.webp`);
    if (existsSync(file)) return file;
  }
  return undefined;
}

function svg(style, e) {
  const [set, chars] = sets[style];
  const bare = hex(e).filter((h) => h !== 'fe0f').join('-');
  let name = chars[bare] ?? chars[hex(e).join('-')];
  if (!name) return undefined;
  if (!set.icons[name]) name = set.aliases?.[name]?.parent ?? name;
  const icon = set.icons[name];
  if (!icon) return undefined;
  const w = icon.width ?? set.width;
  const h = icon.height ?? set.height;
  const box = `${icon.left ?? 0} ${icon.top ?? 0} ${w} ${h}`;
  return Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${SIZE}" height="${SIZE}" viewBox="${box}">${icon.body}</svg>`,
  );
}

const out = openSync(path.join(data, 'images.u8'), 'w');
const index = [];
let failed = 0;
for (const [e, info] of Object.entries(emoji)) {
  if (info.group === 'Flags' || info.name.startsWith('keycap')) continue;
  if (/o’clock|-thirty$|skin tone/.test(info.name)) continue;
  for (const style of ['3d', 'flat', 'noto', 'twemoji', 'mono']) {
    const source = style === '3d' ? picture3d(e) : svg(style, e);
    if (!source) continue;
    try {
      const rgb = await sharp(source)
        .resize(SIZE, SIZE, { fit: 'contain', kernel: 'lanczos3', background: { r: 255, g: 255, b: 255, alpha: 0 } })
        .flatten({ background: '#ffffff' })
        .toColourspace('srgb')
        .removeAlpha()
        .raw()
        .toBuffer();
      if (rgb.length !== SIZE * SIZE * 3) throw new Error(`unexpected length ${rgb.length}`);
      writeSync(out, rgb);
      index.push({ emoji: e, code: hex(e).filter((h) => h !== 'fe0f').join('-'), name: info.name, group: info.group, style });
    } catch (error) {
      failed += 1;
      if (failed < 10) console.error(style, info.name, String(error).slice(0, 200));
    }
  }
}
closeSync(out);
writeFileSync(path.join(data, 'images.json'), JSON.stringify({ size: SIZE, items: index }));
console.log(`${index.length} pictures, ${failed} failed`);
