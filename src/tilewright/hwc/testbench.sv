// The block between memories that are played in C++ (testbench.cpp). At the end of every cycle
// `end_cycle` is told what the block put on its ports and says what it finds there in the next: so
// no logic hangs on inputs that change between clock edges, which a simulator would evaluate twice.
module testbench(input clk, output is_done, output [31:0] cycles, output [31:0] steps,
    output [31:0] count_inputs, output [31:0] count_weights, output [31:0] count_sums_in,
    output [31:0] count_sums_out, output [31:0] count_results, output [31:0] count_biases);
  import "DPI-C" function void end_cycle(input int told, input int steps,
      input int inputs_address, input int weights_address, input int sums_in_address,
      input int biases_address, input int sums_out_address, input int sums_out_data,
      output int given, output int number, output int value, output int inputs_data,
      output int weights_data, output int sums_in_data, output int biases_data);
  wire [10:0] told;
  wire [31:0] inputs_address, weights_address, sums_in_address, biases_address;
  wire [31:0] sums_out_address, sums_out_data;
  reg [31:0] given = 1, number = 0, value = 0;
  reg [31:0] inputs_data = 0, weights_data = 0, sums_in_data = 0, biases_data = 0;
  reg [31:0] next_given, next_number, next_value;
  reg [31:0] next_inputs, next_weights, next_sums, next_biases;
  always @(posedge clk) begin
    end_cycle({21'b0, told}, steps, inputs_address, weights_address, sums_in_address,
        biases_address, sums_out_address, sums_out_data, next_given, next_number, next_value,
        next_inputs, next_weights, next_sums, next_biases);
    given <= next_given;
    number <= next_number;
    value <= next_value;
    inputs_data <= next_inputs;
    weights_data <= next_weights;
    sums_in_data <= next_sums;
    biases_data <= next_biases;
  end
  assign is_done = told[0];
  hwc block(
      .clk(clk), .rst(given[0]), .load(given[1]), .start(given[2]),
      .register_number(number), .value(value), .is_done(told[0]), .steps(steps), .cycles(cycles),
      .inputs_ask(told[1]), .weights_ask(told[2]), .sums_in_ask(told[3]), .biases_ask(told[4]),
      .inputs_answer_ready(told[5]), .weights_answer_ready(told[6]),
      .sums_in_answer_ready(told[7]), .biases_answer_ready(told[8]),
      .sums_out_put(told[9]), .sums_out_is_result(told[10]),
      .inputs_address(inputs_address), .weights_address(weights_address),
      .sums_in_address(sums_in_address), .biases_address(biases_address),
      .sums_out_address(sums_out_address), .sums_out_data(sums_out_data),
      .inputs_ask_ready(given[3]), .weights_ask_ready(given[4]),
      .sums_in_ask_ready(given[5]), .biases_ask_ready(given[6]),
      .inputs_answer(given[7]), .weights_answer(given[8]),
      .sums_in_answer(given[9]), .biases_answer(given[10]), .sums_out_put_ready(given[11]),
      .inputs_data(inputs_data), .weights_data(weights_data),
      .sums_in_data(sums_in_data), .biases_data(biases_data),
      .count_inputs(count_inputs), .count_weights(count_weights),
      .count_sums_in(count_sums_in), .count_sums_out(count_sums_out),
      .count_results(count_results), .count_biases(count_biases));
endmodule
