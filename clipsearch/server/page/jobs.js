/** The view of index runs: what runs, how far it is, what became of it; starting and cancelling. */

import { isAbort } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { formatDate, t } from "./i18n.js";

const RUNNING = new Set(["running", "stopping"]);
const COUNTS = ["added", "changed", "moved", "removed", "unchanged", "failures"];

/** @param {object} ctx */
export function mount(ctx) {
  const { store, api } = ctx;
  const start = h("div", {});
  const list = h("ul", { class: "jobs" });
  const element = h("section", { class: "view", "aria-label": t("jobs") }, h("div", { class: "view-head" }, h("h1", {}, t("jobs"))), h("div", { class: "view-body" }, start, list));
  const abort = new AbortController();
  let events = null;

  async function load() {
    try {
      const { jobs } = await api.get("/v1/jobs", { signal: abort.signal });
      fill(list, jobs.length ? jobs.map((job) => row(ctx, job)) : h("li", { class: "muted" }, t("noJobs")));
      const running = jobs.find((job) => RUNNING.has(job.state));
      if (running) follow(running.id, list.children[jobs.indexOf(running)]);
    } catch (problem) {
      if (!isAbort(problem)) fill(list, h("li", { role: "alert" }, problem.message));
    }
  }

  /** The browser sends the cookie, and connects again where the stream breaks off. */
  function follow(id, element) {
    events?.close();
    events = new EventSource(`/v1/jobs/${id}/events`);
    let shown = element;
    const show = (event) => {
      const next = row(ctx, JSON.parse(event.data));
      shown.replaceWith(next);
      shown = next;
    };
    events.addEventListener("progress", show);
    events.addEventListener("end", (event) => {
      show(event);
      events.close();
      ctx.announce(t("jobEnded"));
      ctx.actions.refresh();
    });
  }

  function drawStart() {
    fill(start, store.get().capabilities.writable ? startForm(ctx, load) : h("p", { class: "muted" }, t("readOnlyServer")));
  }

  const unsubscribe = store.subscribe((state, before) => state.capabilities !== before.capabilities && drawStart());
  drawStart();
  load();
  return {
    element,
    destroy() {
      unsubscribe();
      abort.abort();
      events?.close();
    },
  };
}

function startForm({ api }, reload) {
  const folder = h("input", { id: "job-folder", class: "field", type: "text", placeholder: t("allFolders"), autocomplete: "off", spellcheck: "false" });
  const retry = h("input", { type: "checkbox" });
  const fault = h("p", { class: "error", role: "alert" });
  return h("form", { class: "job-form", onsubmit: submit },
    h("label", { for: "job-folder", class: "label" }, t("folder")), folder,
    h("label", { class: "facet" }, retry, h("span", {}, t("retryFailed"))), fault,
    h("div", { class: "row" }, h("button", { class: "button primary" }, icon("refresh"), t("startJob"))));

  async function submit(event) {
    event.preventDefault();
    const path = folder.value.trim();
    fill(fault);
    try {
      await api.post("/v1/jobs", { paths: path ? [path] : [], retry_failed: retry.checked });
      await reload();
    } catch (problem) {
      fill(fault, problem.message);
    }
  }
}

function row(ctx, job) {
  const isRunning = RUNNING.has(job.state);
  const { writable } = ctx.store.get().capabilities;
  const cancel = job.state === "running" && writable &&
    h("button", { type: "button", class: "button", onclick: () => ctx.api.send("DELETE", `/v1/jobs/${job.id}`) }, t("cancelJob"));
  return h("li", { class: "job" },
    h("div", { class: "row between" },
      h("div", {},
        h("p", { class: "job-name" }, job.paths.join(", ") || t("allFolders")),
        h("p", { class: "muted" }, `${t(`job_${job.state}`)} · ${formatDate(localTime(job.started), { dateStyle: "medium", timeStyle: "short" })}`)),
      cancel),
    isRunning && progress(job),
    job.error && h("p", { class: "error" }, job.error),
    job.report && report(job.report));
}

function progress({ done, total }) {
  const bar = h("progress", { class: "progress", "aria-label": t("jobProgress"), ...(total && { value: done, max: total }) });
  return h("div", { class: "job-progress" }, bar, h("span", { class: "muted" }, total ? t("filesOf", { n: done, total }) : t("files", { n: done })));
}

function report(report) {
  const counted = COUNTS.filter((name) => report[name]).map((name) => t(`report_${name}`, { n: report[name] }));
  const failed = report.failed.length > 0 && h("details", {}, h("summary", {}, t("failedFiles", { n: report.failures })),
    h("ul", { class: "failed" }, report.failed.map(({ path, reason }) => h("li", {}, h("span", { class: "path" }, path), " ", h("span", { class: "muted" }, reason)))));
  return [h("p", {}, counted.join(" · ") || t("nothingNew")), failed,
    report.offline.length > 0 && h("p", { class: "error" }, t("offlineFolders", { names: report.offline.join(", ") }))];
}

/** The server gives times with their zone; they are shown in that of the person. */
function localTime(time) {
  const at = new Date(time);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
