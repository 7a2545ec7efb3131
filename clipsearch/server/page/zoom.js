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
 * @returns {Zoom}
 */
export function createZoom(stage, hooks) {
  const zoom = new Zoom(stage, hooks.onZoom);
  new Gestures(stage, zoom, hooks);
  return zoom;
}

class Zoom {
  constructor(stage, onZoom) {
    this._stage = stage;
    this._onZoom = onZoom;
    /** What is shown; null for what cannot be zoomed. */
    this.image = null;
    this.scale = 1;
    this._x = 0;
    this._y = 0;
  }

  /** @param {HTMLImageElement | null} image shown whole */
  show(image) {
    this.image = image;
    this._set(1, 0, 0);
  }

  /** Show what another zoom shows; `onZoom` is not called for it. */
  follow(scale, x, y) {
    if (this.image) this._set(scale, x * this.image.offsetWidth, y * this.image.offsetHeight, { isFollowing: true });
  }

  in() {
    this._zoomMiddle(this.scale * STEP);
  }

  out() {
    this._zoomMiddle(this.scale / STEP);
  }

  whole() {
    this._zoomMiddle(1);
  }

  /** Move a zoomed picture by pixels; false for one that is shown whole. */
  pan(dx, dy) {
    if (this.scale === 1) return false;
    this._set(this.scale, this._x + dx, this._y + dy);
    return true;
  }

  /** Zoom so that what lies under a point stays there. */
  at(wanted, clientX, clientY) {
    const scale = Math.max(1, Math.min(MOST, wanted));
    const box = this._stage.getBoundingClientRect();
    const [fromX, fromY] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    const grown = scale / this.scale;
    this._set(scale, fromX - (fromX - this._x) * grown, fromY - (fromY - this._y) * grown);
  }

  _zoomMiddle(scale) {
    const { left, top, width, height } = this._stage.getBoundingClientRect();
    this.at(scale, left + width / 2, top + height / 2);
  }

  _set(scale, x, y, { isFollowing = false } = {}) {
    this.scale = this.image ? scale : 1;
    this._stage.classList.toggle("is-zoomed", this.scale > 1);
    if (!this.image) return;
    const { offsetWidth: width, offsetHeight: height } = this.image;
    this._x = bounded(x, room(width * scale, this._stage.clientWidth));
    this._y = bounded(y, room(height * scale, this._stage.clientHeight));
    this.image.style.transform = `translate(${this._x}px, ${this._y}px) scale(${scale})`;
    if (!isFollowing) this._onZoom(scale, this._x / (width || 1), this._y / (height || 1));
  }
}

class Gestures {
  constructor(stage, zoom, { onSwipe, onDismiss }) {
    Object.assign(this, { _stage: stage, _zoom: zoom, _onSwipe: onSwipe, _onDismiss: onDismiss });
    this._pointers = new Map();
    this._start = null;
    this._spread = 0;
    stage.addEventListener("wheel", (event) => this._onWheel(event), { passive: false });
    stage.addEventListener("dblclick", ({ clientX, clientY }) => zoom.image && zoom.at(zoom.scale > 1 ? 1 : DOUBLE, clientX, clientY));
    stage.addEventListener("pointerdown", (event) => this._onDown(event));
    stage.addEventListener("pointermove", (event) => this._onMove(event));
    stage.addEventListener("pointerup", (event) => this._onUp(event));
    stage.addEventListener("pointercancel", (event) => this._pointers.delete(event.pointerId));
  }

  _onWheel(event) {
    if (!this._zoom.image) return;
    event.preventDefault();
    // A pinch on a touchpad comes as small steps with Ctrl.
    const factor = Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002));
    this._zoom.at(this._zoom.scale * factor, event.clientX, event.clientY);
  }

  _onDown(event) {
    // Words can be marked with the mouse; a finger swipes them too.
    const isTouch = event.pointerType === "touch";
    if (event.target.closest("button, a") || (!this._zoom.image && !isTouch)) return;
    this._stage.setPointerCapture(event.pointerId);
    this._pointers.set(event.pointerId, event);
    this._start = this._pointers.size === 1 ? event : null;
    if (this._pointers.size === 2) this._spread = this._distance();
  }

  _onMove(event) {
    const before = this._pointers.get(event.pointerId);
    if (!before) return;
    this._pointers.set(event.pointerId, event);
    if (this._pointers.size === 2) this._pinch();
    else this._zoom.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  }

  _pinch() {
    const [a, b] = [...this._pointers.values()];
    const distance = this._distance();
    this._zoom.at((this._zoom.scale * distance) / this._spread, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
    this._spread = distance;
  }

  _onUp(event) {
    const isSwipe = this._pointers.size === 1 && this._start && this._zoom.scale === 1 && event.pointerType === "touch";
    this._pointers.delete(event.pointerId);
    if (!isSwipe) return;
    const [dx, dy] = [event.clientX - this._start.clientX, event.clientY - this._start.clientY];
    if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) this._onSwipe(dx < 0 ? 1 : -1);
    else if (dy > 2 * SWIPE && dy > 2 * Math.abs(dx)) this._onDismiss();
  }

  _distance() {
    const [a, b] = [...this._pointers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  }
}

function bounded(value, most) {
  return Math.max(-most, Math.min(most, value));
}

/** How far a picture may be moved from the middle, so that no more than its own size leaves the stage. */
function room(size, available) {
  return Math.max(0, (size - available) / 2);
}
