// Plays the memories at the block's ports and counts what they move. Reads a job from the file
// named first, writes results to the file named second and counters to standard output.
//
// Job, as 32-bit words: registers, input words, weight words, output words, latency, stall percent,
// dead port, seed, patience, biases, cycles after which it ends (0: when done); then the registers,
// inputs, weights and biases themselves.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>
#include "Vtestbench.h"
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

// What the block is given in a cycle: bits, a register and its value, and a word for each reader.
enum { RESET = 1, LOAD = 2, START = 4, ASK_READY = 8, ANSWER = 128, PUT_READY = 2048 };
struct Given {
  int bits = 0, number = 0, value = 0, words[4] = {};
};

// What it told: bits, and the addresses that each reader is asked for.
enum { DONE = 1, ASK = 2, ANSWER_READY = 32, PUT = 512, IS_RESULT = 1024 };

enum { HEAD = 11 };

struct Memories {
  std::vector<int32_t> job;
  int32_t registers, outputs, latency, stall;
  uint64_t patience, most_cycles;
  Random random;
  std::vector<int32_t> sums, results;
  Reader readers[4];
  int32_t loading = -1;
  bool stopped = false, moved = false;
  uint64_t cycle = 0, last_sign = 0, sums_out = 0, results_out = 0;
  uint32_t last_steps = 0;
  Given given{};

  explicit Memories(const char *name)
      : job(read_words(name)), registers(job[0]), outputs(job[3]), latency(job[4]), stall(job[5]),
        patience((uint32_t)job[8]), most_cycles(job[10] ? (uint32_t)job[10] : UINT64_MAX),
        random{0x9E3779B97F4A7C15ull ^ ((uint64_t)(uint32_t)job[7] << 20)}, sums(job[3], 0),
        results(job[3], INT32_MIN) {
    const int32_t *values = job.data() + HEAD, inputs = job[1], weights = job[2], dead = job[6];
    readers[0] = {values + registers, dead == 1};
    readers[1] = {values + registers + inputs, dead == 2};
    readers[2] = {sums.data(), dead == 3};
    readers[3] = {values + registers + inputs + weights, dead == 4};
  }

  bool flows() { return stall == 0 || !random.below(stall); }

  // The registers are loaded one a cycle; then the block is started.
  void load() {
    loading++;
    given = Given{};
    if (loading < registers) {
      given.bits = LOAD, given.number = loading, given.value = job[HEAD + loading];
    } else {
      given.bits = START;
    }
  }

  void begin_cycle() {
    given = Given{};
    for (Reader &reader : readers) {
      const bool due = !reader.waiting.empty() && reader.waiting.front().due <= cycle;
      reader.answers = due && !reader.dead && (reader.answers || flows());
    }
    for (int i = 0; i < 4; i++) {
      if (flows()) given.bits |= ASK_READY << i;
      if (!readers[i].answers) continue;
      given.bits |= ANSWER << i;
      given.words[i] = readers[i].words[readers[i].waiting.front().address];
    }
    if (flows()) given.bits |= PUT_READY;
  }

  void end_cycle(uint32_t told, uint32_t steps, const uint32_t *places, uint32_t put_at,
                 int32_t put) {
    if (moved || steps != last_steps) last_sign = cycle - 1;
    last_steps = steps;
    if (told & DONE || cycle - last_sign >= patience || cycle >= most_cycles) {
      stopped = true;
      return;
    }
    moved = false;
    for (int i = 0; i < 4; i++) {
      Reader &reader = readers[i];
      if (told & given.bits >> 2 & ANSWER_READY << i) {
        reader.waiting.pop_front(), reader.moved++, reader.answers = false;
        moved = true;
      }
      if (told & given.bits >> 2 & ASK << i)
        reader.waiting.push_back({cycle + 1 + latency, places[i]});
    }
    if (told & PUT && given.bits & PUT_READY) {
      if (put_at >= (uint32_t)outputs) exit(5);
      (told & IS_RESULT ? results : sums)[put_at] = put;
      (told & IS_RESULT ? results_out : sums_out)++;
      moved = true;
    }
    cycle++;
    begin_cycle();
  }
};

static Memories *memories;

extern "C" void end_cycle(int told, int steps, int inputs_address, int weights_address,
                          int sums_in_address, int biases_address, int sums_out_address,
                          int sums_out_data, int *given, int *number, int *value, int *inputs_data,
                          int *weights_data, int *sums_in_data, int *biases_data) {
  Memories &m = *memories;
  if (m.loading < m.registers) {
    m.load();
  } else if (m.given.bits == START) {
    m.begin_cycle();
  } else if (!m.stopped) {
    const uint32_t places[4] = {(uint32_t)inputs_address, (uint32_t)weights_address,
                                (uint32_t)sums_in_address, (uint32_t)biases_address};
    m.end_cycle(told, steps, places, sums_out_address, sums_out_data);
  }
  *given = m.given.bits, *number = m.given.number, *value = m.given.value;
  *inputs_data = m.given.words[0], *weights_data = m.given.words[1];
  *sums_in_data = m.given.words[2], *biases_data = m.given.words[3];
}

int main(int argc, char **argv) {
  if (argc < 3) return 4;
  Memories played(argv[1]);
  memories = &played;
  Vtestbench top;
  top.clk = 0, top.eval();
#ifdef WITH_TRACE
  VerilatedContext *context = top.contextp();
  context->traceEverOn(true);
  VerilatedVcdC trace;
  top.trace(&trace, 99);
  if (argc > 3) trace.open(argv[3]);
  while (!played.stopped) {
    top.clk = !top.clk, top.eval();
    trace.dump(context->time());
    context->timeInc(5);
  }
  if (argc > 3) trace.close();
#else
  // Every change of the clock is a cycle here: `verilator.py` has the registers take both edges.
  while (!played.stopped) top.clk = !top.clk, top.eval();
#endif

  FILE *file = fopen(argv[2], "wb");
  if (!file) return 4;
  fwrite(played.results.data(), 4, played.results.size(), file);
  fclose(file);
  const Reader *readers = played.readers;
  printf("{\"is_done\": %d, \"simulated\": %llu, ", top.is_done, (unsigned long long)played.cycle);
  printf("\"moved\": {\"inputs\": %llu, \"weights\": %llu, \"sums_in\": %llu, ",
         (unsigned long long)readers[0].moved, (unsigned long long)readers[1].moved,
         (unsigned long long)readers[2].moved);
  printf("\"sums_out\": %llu, \"results\": %llu, \"biases\": %llu}, ",
         (unsigned long long)played.sums_out, (unsigned long long)played.results_out,
         (unsigned long long)readers[3].moved);
  printf("\"counters\": {\"cycles\": %u, \"steps\": %u, ", top.cycles, top.steps);
  printf("\"count_inputs\": %u, \"count_weights\": %u, \"count_sums_in\": %u, ", top.count_inputs,
         top.count_weights, top.count_sums_in);
  printf("\"count_sums_out\": %u, \"count_results\": %u, \"count_biases\": %u}}\n",
         top.count_sums_out, top.count_results, top.count_biases);
  return 0;
}
