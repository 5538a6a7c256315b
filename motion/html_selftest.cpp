#include "motion/html_page.h"

namespace mc::motion {

// clang-format off
const char* const kViewerSelftest = R"page(// ---- page.html?selftest: drives the page and leaves PASS or FAIL in the title, for a browser without a person.
async function selftest() {
  const failures = [];
  const want = (fact, what) => { if (!fact) failures.push(what); };
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const print = () => {
    viewer.render();
    const d = ctx.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, solid = 0;
    for (let i = 0; i < d.length; i += 4) {
      sum = (Math.imul(sum, 31) + d[i] + 3 * d[i + 1] + 7 * d[i + 2] + 11 * d[i + 3]) | 0;
      if (d[i + 3] === 255) solid++;
    }
    return {sum, solid, share: solid / (d.length / 4)};
  };
  viewer.pause();
  const controls = document.querySelector("footer"), box = e => e.getBoundingClientRect();
  for (const e of [controls, ...controls.children])
    want(box(e).width > 0 && box(e).left >= 0 && box(e).right <= innerWidth && box(e).bottom <= innerHeight, `${e.id || "the buttons' bar"} is cut off`);
  const rows = new Set([...controls.children].map(e => Math.round((box(e).top + box(e).bottom) / 2)));
  want(rows.size <= (innerWidth > 780 ? 1 : innerWidth > 560 ? 2 : 3), `the buttons stand in ${rows.size} rows`);
  for (let m = 0; m < viewer.count; m++) {
    viewer.select(m);
    want($("caption").textContent === data.motions[m].caption, `caption of motion ${m}`);
    const first = print();
    want(first.share > 0.005, `motion ${m}: nothing drawn`);
    const seen = capsules({m: current, shift: [0, 0, 0]}).map(([a, b]) => [a, b].map(p => project(p)[1] / pixel)).flat();
    want(Math.min(...seen) > room.top && Math.max(...seen) < room.bottom, `motion ${m}: the title or the buttons cover the figure`);
    if (viewer.frames > 4) {
      viewer.seek(viewer.frames / 2);
      want(viewer.frame === Math.round(clamp(viewer.frames / 2, 0, viewer.frames - 1)), `motion ${m}: seek`);
      want(print().sum !== first.sum, `motion ${m}: half-way picture equals the first`);
    }
  }
  if (viewer.count > 1) {
    viewer.select(0);
    const alone = print().sum;
    viewer.select("all");
    want(print().sum !== alone, "all side by side looks like the first alone");
    const across = stage().flatMap(capsules).flatMap(([a, b]) => [project(a)[0], project(b)[0]]);
    want(Math.min(...across) > 0 && Math.max(...across) < canvas.width, "all side by side are wider than the window");
  }
  viewer.select(0); viewer.speed = 1;
  const still = print().sum;
  want(print().sum === still, "the same frame drawn twice differs");
  viewer.play(); await wait(400);
  want(viewer.frames < 2 || viewer.frame > 0, "play does not advance");
  viewer.pause(); await wait(60);
  const stopped = viewer.frame; await wait(200);
  want(viewer.frame === stopped, "pause does not stop");
  $("scrub").value = 0; $("scrub").dispatchEvent(new Event("input"));
  want(viewer.frame === 0, "scrub bar");
  dispatchEvent(new KeyboardEvent("keydown", {key: "End"}));
  want(viewer.frame === viewer.frames - 1, "End key");
  viewer.seek(0);
  const before = print().sum, yaw = camera.yaw, distance = camera.distance;
  const pointer = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, {pointerId: 1, clientX: x, clientY: y, bubbles: true}));
  pointer("pointerdown", 300, 300); pointer("pointermove", 380, 320); pointer("pointerup", 380, 320);
  want(camera.yaw !== yaw && print().sum !== before, "drag does not turn the view");
  canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, cancelable: true}));
  want(camera.distance < distance, "wheel does not zoom");
  viewer.reset();
  want(print().sum === before, "reset does not restore the view");
  $("theme").click();
  want(print().sum !== before, "theme does not change the picture");
  $("theme").click();
  want(!errors.length, "errors: " + errors.join("; "));
  document.title = failures.length ? "FAIL: " + failures.join(", ") : "PASS";
}
)page";
// clang-format on

}  // namespace mc::motion
