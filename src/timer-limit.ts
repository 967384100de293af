/** Maximum delay of Node's timers, in milliseconds. A timer with a longer delay fires after 1 ms. */
export const maxTimerMs = 2 ** 31 - 1;
