/** Copying to the clipboard, also where the page is not served over HTTPS. */

/**
 * Copy a text.
 * @param {string} text
 * @returns {Promise<boolean>} whether that worked
 */
export async function copyText(text) {
  try {
    // Browsers offer this to secure pages only: to those of this machine, or over HTTPS.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(area); // nothing else can be selected behind it
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
