// The tracks follow the video, and the video follows a click on a track.
"use strict";
{
  const video = document.getElementById("video");
  const timeline = document.getElementById("timeline");
  const frame = document.getElementById("window");
  const playhead = document.getElementById("playhead");
  const clock = document.getElementById("clock");
  const present = document.getElementById("present");
  const events = [...timeline.querySelectorAll(".event")];
  const duration = Number(timeline.dataset.duration);
  const span = (event) => [Number(event.dataset.onset), Number(event.dataset.offset)];
  const onsets = [...new Set(events.map((event) => span(event)[0]))].sort((a, b) => a - b);
  let time = 0; // what is shown; the video's own time, where there is a video

  const draw = () => {
    playhead.style.left = `${(100 * Math.min(time, duration)) / duration}%`;
    clock.textContent = `${time.toFixed(1)} s`;
    const now = [];
    for (const event of events) {
      const [onset, offset] = span(event);
      const active = onset <= time && time < offset;
      active ? event.setAttribute("aria-current", "time") : event.removeAttribute("aria-current");
      if (active) now.push(`${event.dataset.label} (${event.dataset.verb})`);
    }
    present.textContent = now.join(", ");
    const x = playhead.offsetLeft;
    if (x < frame.scrollLeft || x > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = x - frame.clientWidth / 4;
  };
  const read = () => {
    time = video.currentTime;
    draw();
  };
  let request = 0;
  const follow = () => {
    cancelAnimationFrame(request);
    read();
    if (!video.paused && !video.ended) request = requestAnimationFrame(follow);
  };
  const seek = (seconds) => {
    time = Math.max(0, Math.min(seconds, duration));
    video.currentTime = time;
    draw();
  };

  timeline.style.minWidth = `${4 * duration}px`;
  video.addEventListener("play", follow);
  for (const name of ["seeked", "timeupdate"]) video.addEventListener(name, read);
  video.addEventListener("error", () => {
    document.getElementById("unplayable").hidden = false;
  });
  if (video.error) document.getElementById("unplayable").hidden = false; // it failed before this script ran
  document.addEventListener("click", (click) => {
    const mark = click.target.closest("[data-onset]");
    if (mark) return seek(Number(mark.dataset.onset));
    if (!click.target.closest("#timeline")) return;
    const box = timeline.getBoundingClientRect();
    seek((duration * (click.clientX - box.left)) / box.width);
  });
  document.addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.altKey || key.metaKey || key.target.closest("video, input, select, .scroll[tabindex]")) return;
    const steps = {
      ArrowLeft: () => time - 1,
      ArrowRight: () => time + 1,
      n: () => onsets.find((onset) => onset > time + 0.01),
      p: () => onsets.findLast((onset) => onset < time - 0.01),
    };
    if (key.key === " " && !key.target.closest("button")) {
      key.preventDefault();
      return video.paused ? video.play().catch(() => {}) : video.pause();
    }
    const target = steps[key.key]?.();
    if (target === undefined) return;
    key.preventDefault();
    seek(target);
  });
  draw();
}
