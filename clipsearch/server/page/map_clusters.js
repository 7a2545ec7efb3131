/** The clusters of pictures on the map, as buttons. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { formatLatitude, formatLongitude } from "./map_drawing.js";
import { pixelOf } from "./map_view.js";

/** Pixels between clusters at least; nearer ones are shown as one. */
const NEAR = 52;
/** Pixels of a cluster from its middle, with its count. */
const HALF = 30;
const HALF_WITH_COUNT = 38;

/** @typedef {{latitude: number, longitude: number, count: number, id: number}} Cluster id: of a picture that stands for it */

/**
 * Put clusters together that would cover each other, the larger ones first.
 * @param {Cluster[]} clusters
 * @param {import("./map_view.js").View} view
 * @returns {Cluster[]}
 */
export function mergeNear(clusters, view) {
  const kept = [];
  for (const cluster of [...clusters].sort((a, b) => b.count - a.count || a.id - b.id)) {
    const [x, y] = insideOf(view, cluster);
    const near = kept.find((each) => Math.hypot(each.x - x, each.y - y) < NEAR);
    if (near) near.cluster = { ...near.cluster, count: near.cluster.count + cluster.count };
    else kept.push({ x, y, cluster });
  }
  return kept.map(({ cluster }) => cluster);
}

/** Return where to show a cluster: one at the edge of the map is moved in, so that it is seen whole. */
function insideOf(view, { latitude, longitude }) {
  const [x, y] = pixelOf(view, latitude, longitude);
  return isSeen(view, x, y) ? [within(x, HALF, view.width - HALF_WITH_COUNT), within(y, HALF_WITH_COUNT, view.height - HALF)] : [x, y];
}

function isSeen({ width, height }, x, y) {
  return x >= 0 && y >= 0 && x <= width && y <= height;
}

function within(value, least, most) {
  return Math.max(least, Math.min(most, value));
}

/**
 * Make the layer of clusters.
 * @param {(cluster: Cluster) => void} onOpen
 */
export function createClusters(onOpen) {
  const element = h("div", { class: "clusters", role: "list", "aria-label": t("clusters") });
  let shown = new Map();

  /** Show other clusters; one that stays keeps its element, and with it the focus. @param {Cluster[]} clusters */
  function show(clusters, view) {
    const next = new Map();
    for (const cluster of mergeNear(clusters, view)) {
      const known = shown.get(cluster.id);
      const isSame = known && known.cluster.count === cluster.count;
      next.set(cluster.id, { cluster, holder: isSame ? known.holder : make(cluster, onOpen) });
    }
    for (const [id, { holder }] of shown) if (next.get(id)?.holder !== holder) holder.remove();
    for (const { holder } of next.values()) if (!holder.isConnected) element.append(holder);
    shown = next;
    place(view);
  }

  /** Put the clusters where they are in a view. */
  function place(view) {
    for (const { cluster, holder } of shown.values()) {
      const [x, y] = insideOf(view, cluster);
      holder.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
      holder.hidden = !isSeen(view, x, y);
    }
  }

  return { element, show, place };
}

function make(cluster, onOpen) {
  const { latitude, longitude, count, id } = cluster;
  const label = t("clusterAt", { count: t("pictureCount", { n: count }), place: `${formatLatitude(latitude, 1)}, ${formatLongitude(longitude, 1)}` });
  const button = h("button", { type: "button", class: "cluster", "aria-label": label, title: label, onclick: () => onOpen(cluster) },
    h("img", { alt: "", src: `/v1/items/${id}/thumbnail?size=128`, draggable: "false" }),
    count > 1 && h("span", { class: "cluster-count" }, t("number", { n: count })));
  return h("div", { class: "cluster-holder", role: "listitem" }, button);
}
