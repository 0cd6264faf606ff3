/* Play the sound of a single sample, which is embedded in the page. */
{
  const card = document.getElementById("sample"), picture = card.querySelector(".picture");
  const clock = card.querySelector(".clock");
  const surface = {
    source: JSON.parse(document.getElementById("sound").textContent),
    seconds: Number(card.dataset.seconds),
    show(time) {
      move(time);
      clock.textContent = `${time.toFixed(1)} / ${surface.seconds.toFixed(1)} s`;
    },
    playing(is) { card.classList.toggle("playing", is); if (is) card.classList.add("begun"); },
    failed(message) { clock.textContent = message; },
  };
  const move = playable(picture, surface);
  surface.show(0);
  card.querySelector(".play").addEventListener("click", () => player.toggle(surface));
  const fit = () => { // a notebook shows this page in a frame, whose height follows its content
    if (frameElement) frameElement.style.height = `${document.body.scrollHeight + 8}px`;
  };
  addEventListener("load", fit);
  addEventListener("resize", fit);
}
