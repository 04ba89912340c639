// Plays the memories at the block's ports and counts what they move. Reads a job from the file
// named first, writes results to the file named second and counters to standard output.
//
// Job, as 32-bit words: registers, input words, weight words, output words, latency, stall percent,
// dead port, seed, patience, biases; then the registers, inputs, weights and biases themselves.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>
#include "Vhwc.h"
#include "verilated.h"

#ifdef WITH_TRACE
#include "verilated_vcd_c.h"
#endif

double sc_time_stamp() { return 0; }

static std::vector<int32_t> read_words(const char *name) {
  FILE *file = fopen(name, "rb");
  if (!file) exit(4);
  fseek(file, 0, SEEK_END);
  std::vector<int32_t> words(ftell(file) / 4);
  rewind(file);
  if (fread(words.data(), 4, words.size(), file) != words.size()) exit(4);
  fclose(file);
  return words;
}

struct Random {
  uint64_t state;
  bool below(unsigned percent) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state >> 11) % 100 < percent;
  }
};

struct Question {
  uint64_t due;
  uint32_t address;
};

struct Reader {
  const int32_t *words;
  bool dead;
  std::deque<Question> waiting{};
  uint64_t moved = 0;
  bool answers = false;
};

int main(int argc, char **argv) {
  if (argc < 3) return 4;
  std::vector<int32_t> job = read_words(argv[1]);
  const int32_t registers = job[0], inputs = job[1], weights = job[2], outputs = job[3];
  const int latency = job[4], stall = job[5], dead = job[6];
  const uint64_t patience = (uint32_t)job[8];
  Random random{0x9E3779B97F4A7C15ull ^ ((uint64_t)(uint32_t)job[7] << 20)};
  const int32_t *values = job.data() + 10;
  std::vector<int32_t> sums(outputs, 0), results(outputs, INT32_MIN);
  Reader readers[4] = {{values + registers, dead == 1},
                       {values + registers + inputs, dead == 2},
                       {sums.data(), dead == 3},
                       {values + registers + inputs + weights, dead == 4}};

  Vhwc top;
  VerilatedContext *context = top.contextp();
#ifdef WITH_TRACE
  context->traceEverOn(true);
  VerilatedVcdC trace;
  top.trace(&trace, 99);
  if (argc > 3) trace.open(argv[3]);
#endif
  auto tick = [&]() {
    top.clk = 1, top.eval();
#ifdef WITH_TRACE
    trace.dump(context->time());
#endif
    context->timeInc(5);
    top.clk = 0, top.eval();
#ifdef WITH_TRACE
    trace.dump(context->time());
#endif
    context->timeInc(5);
  };

  top.clk = 0, top.rst = 1, tick(), top.rst = 0;
  top.load = 1;
  for (int32_t i = 0; i < registers; i++) top.register_number = i, top.value = values[i], tick();
  top.load = 0, top.start = 1, tick(), top.start = 0;

  uint64_t cycle = 0, last_sign = 0, sums_out = 0, results_out = 0;
  uint32_t last_steps = 0;
  auto flows = [&]() { return stall == 0 || !random.below(stall); };
  while (!top.is_done && cycle - last_sign < patience) {
    for (Reader &reader : readers) {
      const bool due = !reader.waiting.empty() && reader.waiting.front().due <= cycle;
      reader.answers = due && !reader.dead && (reader.answers || flows());
    }
    auto word = [](Reader &r) { return r.answers ? r.words[r.waiting.front().address] : 0; };
    top.inputs_ask_ready = flows(), top.weights_ask_ready = flows();
    top.sums_in_ask_ready = flows(), top.sums_out_put_ready = flows();
    top.inputs_answer = readers[0].answers, top.inputs_data = word(readers[0]);
    top.weights_answer = readers[1].answers, top.weights_data = word(readers[1]);
    top.biases_ask_ready = flows();
    top.biases_answer = readers[3].answers, top.biases_data = word(readers[3]);
    top.sums_in_answer = readers[2].answers, top.sums_in_data = word(readers[2]);
    // No output of the block follows from its inputs in the same cycle, so none is evaluated here.
    const bool asks[4] = {top.inputs_ask && top.inputs_ask_ready,
                          top.weights_ask && top.weights_ask_ready,
                          top.sums_in_ask && top.sums_in_ask_ready,
                          top.biases_ask && top.biases_ask_ready};
    const uint32_t places[4] = {top.inputs_address, top.weights_address, top.sums_in_address,
                                top.biases_address};
    const bool taken[4] = {top.inputs_answer && top.inputs_answer_ready,
                           top.weights_answer && top.weights_answer_ready,
                           top.sums_in_answer && top.sums_in_answer_ready,
                           top.biases_answer && top.biases_answer_ready};
    bool moved = false;
    for (int i = 0; i < 4; i++) {
      if (taken[i]) readers[i].waiting.pop_front(), readers[i].moved++, readers[i].answers = false;
      if (asks[i]) readers[i].waiting.push_back({cycle + 1 + latency, places[i]});
      moved |= taken[i];
    }
    if (top.sums_out_put && top.sums_out_put_ready) {
      if (top.sums_out_address >= (uint32_t)outputs) return 5;
      (top.sums_out_is_result ? results : sums)[top.sums_out_address] = (int32_t)top.sums_out_data;
      (top.sums_out_is_result ? results_out : sums_out)++;
      moved = true;
    }
    tick();
    if (moved || top.steps != last_steps) last_sign = cycle;
    last_steps = top.steps;
    cycle++;
  }
#ifdef WITH_TRACE
  if (argc > 3) trace.close();
#endif

  FILE *file = fopen(argv[2], "wb");
  if (!file) return 4;
  fwrite(results.data(), 4, results.size(), file);
  fclose(file);
  printf("{\"is_done\": %d, \"simulated\": %llu, ", top.is_done, (unsigned long long)cycle);
  printf("\"moved\": {\"inputs\": %llu, \"weights\": %llu, \"sums_in\": %llu, ",
         (unsigned long long)readers[0].moved, (unsigned long long)readers[1].moved,
         (unsigned long long)readers[2].moved);
  printf("\"sums_out\": %llu, \"results\": %llu, \"biases\": %llu}, ",
         (unsigned long long)sums_out, (unsigned long long)results_out,
         (unsigned long long)readers[3].moved);
  printf("\"counters\": {\"cycles\": %u, \"steps\": %u, ", top.cycles, top.steps);
  printf("\"count_inputs\": %u, \"count_weights\": %u, \"count_sums_in\": %u, ", top.count_inputs,
         top.count_weights, top.count_sums_in);
  printf("\"count_sums_out\": %u, \"count_results\": %u, \"count_biases\": %u}}\n",
         top.count_sums_out, top.count_results, top.count_biases);
  return 0;
}
