/** Zooming and moving a picture, and swiping to its neighbours. */

const MOST = 8;
const STEP = 1.5;
const DOUBLE = 2.5;
const SWIPE = 60;

/**
 * Let a picture be zoomed by wheel, pinch and double click, and moved by dragging.
 * @param {HTMLElement} stage what the picture is shown in
 * @param {{onSwipe: (by: 1 | -1) => void, onDismiss: () => void, onZoom: (scale: number, x: number, y: number) => void}} hooks
 *   onZoom: x and y are how far the picture was moved, in its widths and heights
 */
export function createZoom(stage, { onSwipe, onDismiss, onZoom }) {
  const pointers = new Map();
  let image = null;
  let [scale, x, y] = [1, 0, 0];
  let start = null;
  let spread = 0;

  function apply({ isFollowing = false } = {}) {
    if (!image) return;
    const [freeX, freeY] = [room(image.offsetWidth, stage.clientWidth), room(image.offsetHeight, stage.clientHeight)];
    x = Math.max(-freeX, Math.min(freeX, x));
    y = Math.max(-freeY, Math.min(freeY, y));
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    stage.classList.toggle("is-zoomed", scale > 1);
    if (!isFollowing) onZoom(scale, x / (image.offsetWidth || 1), y / (image.offsetHeight || 1));
  }

  /** How far a picture may be moved from the middle, so that no more than its own size leaves the stage. */
  function room(size, available) {
    return Math.max(0, (size * scale - available) / 2);
  }

  /** Zoom so that what lies under a point stays there. */
  function zoomAt(next, clientX, clientY) {
    if (!image) return;
    const bounded = Math.max(1, Math.min(MOST, next));
    const box = stage.getBoundingClientRect();
    const [fromX, fromY] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    x = fromX - ((fromX - x) * bounded) / scale;
    y = fromY - ((fromY - y) * bounded) / scale;
    scale = bounded;
    apply();
  }

  function zoomMiddle(next) {
    const box = stage.getBoundingClientRect();
    zoomAt(next, box.left + box.width / 2, box.top + box.height / 2);
  }

  function distance() {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  }

  stage.addEventListener("wheel", (event) => {
    if (!image) return;
    event.preventDefault();
    zoomAt(scale * Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => image && zoomAt(scale > 1 ? 1 : DOUBLE, event.clientX, event.clientY));
  stage.addEventListener("pointerdown", (event) => {
    // Words can be marked with the mouse; a finger swipes them too.
    if (event.target.closest("button, a") || (!image && event.pointerType !== "touch")) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    start = pointers.size === 1 ? { clientX: event.clientX, clientY: event.clientY } : null;
    if (pointers.size === 2) spread = distance();
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      const now = distance();
      const [a, b] = [...pointers.values()];
      zoomAt((scale * now) / spread, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
      spread = now;
    } else if (scale > 1) {
      x += event.clientX - before.clientX;
      y += event.clientY - before.clientY;
      apply();
    }
  });
  stage.addEventListener("pointerup", (event) => {
    const wasAlone = pointers.size === 1 && start && scale === 1 && event.pointerType === "touch";
    pointers.delete(event.pointerId);
    if (!wasAlone) return;
    const [dx, dy] = [event.clientX - start.clientX, event.clientY - start.clientY];
    if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) onSwipe(dx < 0 ? 1 : -1);
    else if (dy > 2 * SWIPE && dy > 2 * Math.abs(dx)) onDismiss();
  });
  stage.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));

  return {
    /** @param {HTMLImageElement | null} next shown whole; null for what cannot be zoomed */
    show(next) {
      image = next;
      [scale, x, y] = [1, 0, 0];
      pointers.clear();
      apply();
    },
    /** Show what another zoom shows; `onZoom` is not called for it. */
    follow(otherScale, otherX, otherY) {
      if (!image) return;
      [scale, x, y] = [otherScale, otherX * image.offsetWidth, otherY * image.offsetHeight];
      apply({ isFollowing: true });
    },
    in: () => zoomMiddle(scale * STEP),
    out: () => zoomMiddle(scale / STEP),
    whole: () => zoomMiddle(1),
    /** Move a zoomed picture; false for one that is shown whole. */
    pan(dx, dy) {
      if (scale === 1) return false;
      x += dx;
      y += dy;
      apply();
      return true;
    },
  };
}
