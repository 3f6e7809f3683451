// Shows a figure at its full size when it is clicked; what is wider than the screen scrolls.
const dialog = document.createElement("dialog")
dialog.className = "zoom"
dialog.setAttribute("aria-label", "Figure at its full size; click or press Escape to close")
dialog.addEventListener("click", () => dialog.close())
document.body.append(dialog)

function zoom(image) {
  const copy = new Image()
  copy.src = image.src
  copy.alt = image.alt
  // at least twice as large as on the page
  copy.width = Math.max(image.naturalWidth, 2 * image.width)
  dialog.replaceChildren(copy)
  dialog.showModal()
}

for (const image of document.querySelectorAll("article img")) {
  if (image.closest("a")) continue
  image.classList.add("zoomable")
  image.tabIndex = 0
  image.title = "Click to enlarge"
  image.addEventListener("click", () => zoom(image))
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter") zoom(image)
  })
}
