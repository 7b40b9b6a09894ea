// Where a page keeps what it has learnt: the origin's private file system, of which no other origin
// and no server reads. For worker.js.
//
// A name has two files, written in turns: a save that breaks off, or finds no room, leaves the one
// before. Each begins with its length and SHA-256, so that half of one is not taken for one.
import {NudgeError} from './learner.js';

const kMagic = 'nudge-1\n';
const kHeaderBytes = 4096;
const known = new Map();  // the number that this worker last saved or restored, by name

async function folderOf(name, create) {
  if (!/^[a-z0-9_-]{1,64}$/.test(name)) {
    throw new NudgeError('a name has 1 to 64 letters a to z, digits, _ and -');
  }
  const root = await navigator.storage.getDirectory();
  const all = await root.getDirectoryHandle('nudge', {create});
  return all.getDirectoryHandle(name, {create});
}

async function hexSha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
}

// What one of the files holds: null, nothing; {damaged: true}; or the header and the two parts.
async function read(folder, file) {
  let bytes;
  try {
    const handle = await folder.getFileHandle(file);
    bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
  } catch (error) {
    if (error.name === 'NotFoundError') return null;
    throw error;
  }
  try {
    const head = new TextDecoder().decode(bytes.subarray(0, kHeaderBytes));
    const header = JSON.parse(head.slice(kMagic.length, head.indexOf('\0')));
    const body = bytes.subarray(kHeaderBytes);
    if (head.startsWith(kMagic) && await hexSha256(body) === header.sha256) {
      return {...header, lessons: body.subarray(0, header.lessonsBytes),
              texts: body.subarray(header.lessonsBytes)};
    }
  } catch {
    // as damaged
  }
  return {damaged: true};
}

async function readBoth(folder) {
  const all = [['a', await read(folder, 'a')], ['b', await read(folder, 'b')]];
  const whole = all.filter(([, saved]) => saved && !saved.damaged)
                    .sort(([, x], [, y]) => y.number - x.number);
  return {newest: whole[0]?.[1] ?? null, file: whole[0]?.[0] === 'a' ? 'b' : 'a',
          damaged: all.filter(([, saved]) => saved?.damaged).length};
}

const noRoom = () =>
    new NudgeError('the browser gives no room to save; free some. What was saved before stays');

// One tab at a time.
async function alone(name, body) {
  return navigator.locks.request(`nudge/${name}`, {ifAvailable: true}, async lock => {
    if (!lock) throw new NudgeError(`another tab is at ${name}; try again in a moment`);
    try {
      return await body();
    } catch (error) {
      if (error.name === 'QuotaExceededError') {
        throw noRoom();
      }
      if (error.name === 'NoModificationAllowedError') {
        throw new NudgeError(`another tab is at ${name}; try again in a moment`);
      }
      throw error;
    }
  });
}

export function standAt(name, number) {
  known.set(name, number);
}

export async function save(name = 'default', base, {lessons, texts}) {
  return alone(name, async () => {
    const folder = await folderOf(name, true);
    const {newest, file} = await readBoth(folder);
    if (newest && newest.number !== known.get(name)) {
      throw new NudgeError(`${name} holds what another page saved; restore it first, or save under ` +
                           'another name');
    }
    const number = (newest?.number ?? 0) + 1;
    const body = new Uint8Array(lessons.length + texts.length);
    body.set(lessons);
    body.set(texts, lessons.length);
    const header = new Uint8Array(kHeaderBytes);
    new TextEncoder().encodeInto(kMagic + JSON.stringify({
      number, base, lessonsBytes: lessons.length, sha256: await hexSha256(body)}), header);
    const handle = await (await folder.getFileHandle(file, {create: true})).createSyncAccessHandle();
    try {
      handle.truncate(0);
      const written = handle.write(header, {at: 0}) + handle.write(body, {at: kHeaderBytes});
      if (written !== kHeaderBytes + body.length) throw noRoom();
      handle.flush();
    } finally {
      handle.close();
    }
    standAt(name, number);
    return {number, bytes: kHeaderBytes + body.length};
  });
}

export async function restore(name = 'default', base) {
  return alone(name, async () => {
    const nothing = new NudgeError(`nothing is saved as ${name}`);
    const folder = await folderOf(name, false).catch(error => {
      throw error.name === 'NotFoundError' ? nothing : error;
    });
    const {newest, damaged} = await readBoth(folder);
    if (!newest) {
      throw damaged ? new NudgeError(`what was saved as ${name} is damaged; import an adapter that ` +
                                     'was exported') : nothing;
    }
    if (newest.base !== base) {
      throw new NudgeError('what was saved is of another model; load the model that it was saved with');
    }
    return {...newest, damaged};
  });
}
