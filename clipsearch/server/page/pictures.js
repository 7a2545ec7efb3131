/** Pictures that were dropped, pasted or chosen. They are in memory only: the address cannot hold them. */

/** Encoders look at a few hundred pixels; a larger picture would only take longer to send. */
const SIDE = 1024;

/** Make the store of such pictures; one at a time is current: that which a search sends along. */
export function createPictures() {
  const kept = new Map();
  let id = null;
  return {
    /** @param {File} file @returns {Promise<void>} */
    async add(file) {
      const blob = await reduce(file);
      id = (kept.size ? Math.max(...kept.keys()) : 0) + 1;
      kept.set(id, { blob, url: URL.createObjectURL(blob), name: file.name });
    },
    /** @param {number | null | undefined} wanted @returns {boolean} whether it is still there */
    use(wanted) {
      id = kept.has(wanted) ? wanted : null;
      return id !== null;
    },
    current: () => kept.get(id)?.blob ?? null,
    currentId: () => id,
    /** A URL of the current picture for `img`. */
    url: () => kept.get(id)?.url ?? null,
  };
}

/** Return a picture of at most SIDE pixels; one that this browser cannot read is sent as it is. */
async function reduce(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = SIDE / Math.max(bitmap.width, bitmap.height);
    if (scale >= 1) return file;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width * scale, bitmap.height * scale];
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // what is transparent would be black in a JPEG
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return await new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", 0.9));
  } catch {
    return file;
  }
}
