// Pages work without this. It shows that a form is under way, sends no form twice, and lets single keys press buttons:
// those that a button shows as its access key, where nobody is typing.
"use strict";

const OFF = "synth_dspy keys off";
const keys = () => localStorage.getItem(OFF) === null;

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "1";
  // After the browser has collected the fields: a disabled button would not be sent.
  setTimeout(() => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    const status = document.getElementById("status");
    if (status) status.textContent = form.dataset.busy || "";
  });
});

// A page that the browser kept for "back" can be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
});

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && event.target.form) {
    return event.target.form.requestSubmit();
  }
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat || !keys()) return;
  if (event.target.matches("input:not([type=radio], [type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const target = document.querySelector(`[accesskey="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!target || target.disabled) return;
  event.preventDefault();
  if (target.matches("input, textarea, select")) return target.focus();
  target.click();
  if (target.matches("summary") && target.parentElement.open) target.parentElement.querySelector("textarea")?.focus();
});

const toggle = document.getElementById("keys");
if (toggle) {
  const show = () => toggle.setAttribute("aria-pressed", String(keys()));
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    if (keys()) localStorage.setItem(OFF, "1");
    else localStorage.removeItem(OFF);
    show();
  });
  show();
}
