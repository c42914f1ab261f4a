// Sounds of patches and of the input: one at a time, and again to stop.
const speaker = new Audio();
let playing = null;

function silence() {
  speaker.pause();
  if (playing) playing.setAttribute("aria-pressed", "false");
  playing = null;
}

speaker.addEventListener("ended", silence);
function released(place) { for (const button of all("[data-sound]", place)) button.setAttribute("aria-pressed", "false"); }
released(document);
document.addEventListener("filled", event => released(event.detail.place));
document.addEventListener("click", event => {
  const button = event.target.closest("[data-sound]"), same = button === playing;
  if (!button) return;
  silence();
  if (same) return;
  playing = button;
  button.setAttribute("aria-pressed", "true");
  speaker.src = button.dataset.sound;
  // Not every browser may play: the button shows it.
  speaker.play().catch(silence);
});
