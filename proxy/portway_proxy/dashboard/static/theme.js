// Light, dark, or as the system has it. Loaded first, so that a page never flashes in the wrong one.

const KEY = "portway-theme";
const CHOICES = ["system", "light", "dark"];

const chosen = () => {
  const kept = localStorage.getItem(KEY);
  return CHOICES.includes(kept) ? kept : "system";
};

function apply(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

apply(chosen());

/** Let `button` go from one theme to the next. */
export function themes(button) {
  const told = () => {
    button.textContent = { system: "◐", light: "☀", dark: "☾" }[chosen()];
    button.setAttribute("aria-label", `Theme: ${chosen()}`);
    button.title = `Theme: ${chosen()}`;
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length]);
    apply(chosen());
    told();
  });
  told();
}
