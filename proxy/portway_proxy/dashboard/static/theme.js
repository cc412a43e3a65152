// Light, dark, or as the system has it. Loaded first, so that a page never flashes in the wrong one.

const KEY = "portway-theme";
const CHOICES = ["system", "light", "dark"];

let choice = "system";
try {
  choice = CHOICES.find((one) => one === localStorage.getItem(KEY)) ?? choice;
} catch {
  // A browser that keeps nothing for anybody: the choice is for this page alone.
}

function apply() {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

apply();

function choose(next) {
  choice = next;
  apply();
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // As above.
  }
}

/** Let `button` go from one theme to the next. */
export function themes(button) {
  const told = () => {
    button.textContent = { system: "◐", light: "☀", dark: "☾" }[choice];
    button.setAttribute("aria-label", `Theme: ${choice}`);
    button.title = `Theme: ${choice}`;
  };
  button.addEventListener("click", () => {
    choose(CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length]);
    told();
  });
  told();
}
